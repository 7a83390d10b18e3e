"""The Gradio tab and the routes behind its live panel."""
