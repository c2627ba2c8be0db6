"""What runs in processes of its own; see `tf_lottery.export.child_process`."""
