"""`zppo sft`: supervised fine-tuning on files, by the loop of `zppo train`."""
