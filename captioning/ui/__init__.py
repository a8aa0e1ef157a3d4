"""What the tabs share: theme, header, model menu, status line, the picture in hand, workers, endpoints."""
