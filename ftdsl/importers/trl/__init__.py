"""TRL's own files, read backwards: commands (`trl dpo …`), its scripts, and the YAML that `--config` names."""
