"""What turns samples into a student: objectives, the window, the learner, checkpoints, export."""
