"""The loop, losses, optimisers, schedules, previews and the state that resumes."""
