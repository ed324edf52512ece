"""transformers' generate on the work's prompts; in the `trl` environment."""

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.side_by_side import work


def main() -> None:
  flags = work.arguments(cache='dynamic', compiled=0)
  torch.set_num_threads(flags.threads)
  model = AutoModelForCausalLM.from_pretrained(
      flags.work / 'model', dtype=torch.float32,
      attn_implementation='sdpa').eval()
  fixed = work.fixed()
  rows = torch.tensor(fixed.rows_BT, dtype=torch.long)
  if flags.compiled:
    model.forward = torch.compile(model.forward)
  inputs = rows[:, :work.PROMPT]
  laps, tokens = work.Laps(), []
  with torch.inference_mode():
    for i in range(flags.steps + 1):
      torch.manual_seed(i)
      out = model.generate(
          inputs, attention_mask=torch.ones_like(inputs), do_sample=True,
          temperature=1.0, top_k=0, top_p=1.0, eos_token_id=work.END_ID,
          pad_token_id=work.END_ID, max_new_tokens=work.RESPONSE,
          cache_implementation=(
              None if flags.cache == 'dynamic' else flags.cache))
      laps.lap('sampling')
      tokens.append(int(np.prod(out[:, work.PROMPT:].shape)))
    peak = work.peak_rss()
    logits = model(rows).logits[:, work.PROMPT - 1:-1]
    logps = torch.log_softmax(logits, -1).gather(
        -1, rows[:, work.PROMPT:, None])[..., 0]
    checked = work.agreed(flags.work, 'generate', logps.numpy(), 0.0, 0.0)
  work.report('generate', {'sampling': laps.seconds['sampling']}, peak,
              tokens=tokens, check=checked, settings=vars(flags) | {'work': ''},
              versions={'torch': torch.__version__,
                        'transformers': transformers.__version__})


if __name__ == '__main__':
  main()
