"""The training tab: its controls, its handlers, and the HTML they show."""
