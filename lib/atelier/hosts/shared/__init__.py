"""Code that the adapters of several WebUIs share: loan and turns, drawing, folders, login, memory."""
