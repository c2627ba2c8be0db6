"""Code that runs in separate processes; see `tf_lottery.export.child_process`."""
