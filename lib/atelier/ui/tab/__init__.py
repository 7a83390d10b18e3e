"""The Gradio tab: its controls, its handlers, and what they show."""
