"""The training tab (Gradio) and the HTTP routes behind its live panel."""
