"""The HTTP service: scores comments, answers the calls of Perspective, and shows a page to try the model."""
