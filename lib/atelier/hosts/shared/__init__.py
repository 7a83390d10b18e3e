"""What the adapters of several WebUIs hold and forward to: loan and turns, drawing, folders, login, memory."""
