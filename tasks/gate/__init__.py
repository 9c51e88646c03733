"""The promotion gate: the decision whether a challenger replaces the champion, its publication and rollback."""
