"""The names of fields in TRL's configs, and the fields of ours that they are.

docs/from_trl.md says the same with its reasons; a test holds both together.
"""

from collections.abc import Container

# Name in GRPOConfig, SFTConfig, TrainingArguments or LoraConfig -> dotted
# fields of configs/base.py, all of which take the place of it.
FIELDS: dict[str, tuple[str, ...]] = {
    'model': ('student.weights',),
    'model_name_or_path': ('student.weights',),
    'num_generations': ('algorithm.rollouts',),
    'per_device_train_batch_size': ('algorithm.num_new', 'algorithm.updates'),
    'generation_batch_size': ('algorithm.num_new', 'algorithm.updates'),
    'gradient_accumulation_steps': ('shapes.micro_tokens',),
    'steps_per_generation': ('algorithm.updates',),
    'max_prompt_length': ('shapes.prompt_buckets',),
    'max_completion_length': ('algorithm.max_tokens',),
    'temperature': ('algorithm.temperature',),
    'top_p': ('algorithm.top_p',),
    'top_k': ('algorithm.top_k',),
    'epsilon': ('algorithm.clip.low',),
    'epsilon_high': ('algorithm.clip.high',),
    'delta': ('algorithm.clip.dual',),
    'beta': ('algorithm.reference.kind', 'algorithm.reference.coefficient'),
    'scale_rewards': ('algorithm.normaliser',),
    'loss_type': ('method',),
    'importance_sampling_level': ('method',),
    'reward_weights': ('reward.weights',),
    'train_dataset': ('data.task',),
    'max_steps': ('steps',),
    'num_train_epochs': ('steps',),
    'seed': ('seed',),
    'learning_rate': ('optimizer.learning_rate',),
    'lr_scheduler_type': ('optimizer.schedule',),
    'lr_scheduler_kwargs': ('optimizer.end_share', 'optimizer.decay_steps'),
    'warmup_steps': ('optimizer.warmup_steps',),
    'weight_decay': ('optimizer.weight_decay',),
    'max_grad_norm': ('optimizer.clip_norm',),
    'adam_beta1': ('optimizer.b1',),
    'adam_beta2': ('optimizer.b2',),
    'adam_epsilon': ('optimizer.eps',),
    'eval_strategy': ('eval.every',),
    'eval_steps': ('eval.every',),
    'eval_dataset': ('eval.sources', 'eval.splits'),
    'save_steps': ('checkpoint.every',),
    'save_total_limit': ('checkpoint.keep',),
    'load_best_model_at_end': ('best.metric',),
    'metric_for_best_model': ('best.metric',),
    'greater_is_better': ('best.mode',),
    'early_stopping_patience': ('best.patience',),
    'early_stopping_threshold': ('best.least',),
    'callbacks': ('run.callbacks',),
    'report_to': ('log.tensorboard', 'log.wandb'),
    'bf16': ('student.dtype',),
    'gradient_checkpointing': ('student.remat',),
    'peft_config': ('lora.rank', 'lora.alpha', 'lora.matrices'),
    'lora_r': ('lora.rank',),
    'r': ('lora.rank',),
    'lora_alpha': ('lora.alpha',),
    'target_modules': ('lora.matrices',)}
# Those that are other fields in configs/sft.py, or are of SFTConfig alone.
SUPERVISED: dict[str, tuple[str, ...]] = {
    'per_device_train_batch_size': ('data.batch',),
    'num_train_epochs': ('data.epochs',),
    'eval_dataset': ('eval.sources',),
    'max_length': ('shapes.row_buckets',),
    'packing': ('shapes.layout',)}
# Those that are no field here: what is said of them.
OTHERWISE: dict[str, str] = {
    'output_dir': 'is the flag --workdir here',
    'resume_from_checkpoint': 'has no field here: the same command resumes',
    'logging_steps': 'has no field here: metrics.jsonl has every step',
    'num_iterations': 'has no field here: a batch is passed over once',
    'mask_truncated_completions': 'has no field here: truncated rollouts are '
                                  'trained on, as wrong ones',
    'use_vllm': 'has no field here: one process samples and trains',
    'vllm_mode': 'has no field here: one process samples and trains',
    'use_liger_kernel': 'has no field here: XLA compiles everything',
    'torch_compile': 'has no field here: XLA compiles everything',
    'log_completions': 'has no field here: samples.jsonl has every rollout',
    'reward_funcs': 'has no field here: a task has rewards',
    'use_bias_correction_kl': 'has no field here: the reference stays as it '
                              'is',
    'sync_ref_model': 'has no field here: the reference stays as it is',
    'load_in_4bit': 'has no field here: int8 is for rollout copies alone',
    'environment_factory': 'has no field here: a rollout has one turn',
    'push_to_hub': 'is `zppo export --push=OWNER/NAME` here',
    'hub_model_id': 'is `zppo export --push=OWNER/NAME` here',
    'hub_private_repo': 'is `zppo export --push=OWNER/NAME --private` here',
    'hub_strategy': 'has no field here: `zppo export --push` uploads once'}


def here(name: str, known: Container[str] | None = None) -> tuple[str, ...]:
  """The dotted fields that a name of TRL's is here; () if there are none.

  Args:
    name: the last part of a name.
    known: the dotted fields of a config, of which all must be; None takes those
      of configs/base.py, else those of configs/sft.py.
  """
  for table in (FIELDS, SUPERVISED):
    fields = table.get(name, ())
    if fields and (known is None or all(f in known for f in fields)):
      return fields
  return ()


def said(name: str, known: Container[str] | None = None,
         prefix: str = '') -> str:
  """A sentence on what a name of TRL's is here, without its full stop; ''
  for another name.

  Args:
    name, known: as of `here`.
    prefix: in front of each field, e.g. 'config.'.
  """
  whole = lambda fields: ' and '.join(prefix + f for f in fields)
  fields = here(name, known)
  taught = SUPERVISED.get(name, ())
  if known is None and taught and fields not in ((), taught):
    return (f'{name} of TRL is {whole(fields)} of `zppo train` and '
            f'{whole(taught)} of `zppo sft` here')
  if fields:
    return f'{name} of TRL is {whole(fields)} here'
  return f'{name} of TRL {OTHERWISE[name]}' if name in OTHERWISE else ''
