"""Table 8 of the ZPPO paper, field by field; other configs start from here.

It runs only after `student`, `teacher` and `data` are set to models and
questions that you have. The paper does not give the fields marked "open"
(docs/paper.md lists our readings).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from zppo_jax import configs


def get_config() -> configs.Config:
  c = ConfigDict()
  c.method = 'zppo'
  c.seed = 0
  c.steps = 200

  c.student = ConfigDict(dict(
      weights='', dtype='bfloat16', remat='full',
      # How many blocks one iteration of the loop over blocks holds; a block is
      # a layer (in Qwen3.5, a period of layers). More than one is faster, takes
      # longer to compile and requires remat='none'.
      unroll=1,
      # 'auto', or a kernel that must fit: 'xla', 'splash' (TPU), 'cudnn' (GPU).
      attention='auto',
      thinking='default',    # the chat template's default; or 'on', 'off'
      # The date in prompts whose chat template shows one, e.g. 2026-03-01; '':
      # the day on which the run starts, which the run then keeps.
      date='',
      # More tokens that end a response, as text or ids, e.g. ('<|im_end|>',).
      # Those of the chat template and of the checkpoint end it in any case.
      end_tokens=(),
      # A Jinja file that replaces the checkpoint's chat template; without both,
      # prompts have the plain form (docs/models.md).
      chat_template='',
      # The weights with which the run draws rollouts and evaluations: 'same',
      # 'bfloat16', or 'int8' with one scale per channel. The update and scoring
      # use the trained weights (docs/performance.md has the log-prob gaps).
      rollout_weights='same'))
  c.teacher = ConfigDict(dict(
      # Or 'own', 'endpoint', 'stored', 'panel' (docs/teachers.md).
      kind='in_process',
      weights='', dtype='bfloat16', remat='none', unroll=1, attention='auto',
      end_tokens=(),         # like the student's: it answers the same prompts
      # The weights that a teacher of this process holds: 'same' (its dtype),
      # 'bfloat16', or 'int8' with one scale per channel, for scores too.
      rollout_weights='same',
      # Another mesh over the same devices, e.g. tensor up to its heads; all 0:
      # the run's own mesh. Answers do not depend on it.
      mesh=ConfigDict(dict(data=0, fsdp=0, tensor=0)),
      # Over the last `window` steps that asked the teacher, a run stops if more
      # than max_failures of the answers are missing, or if the teacher answers
      # less than min_answered of the questions correctly. With min_answered = 0
      # the run only warns, if the teacher answers none correctly.
      max_failures=0.5, window=10, min_answered=0.0))
  # kind 'panel': NAME -> fields of this section; the source of a question ->
  # 'NAME', or '0.7 NAME + 0.3 NAME' for averaged scores; '*' is any other.
  c.teacher.panel = ConfigDict(dict(members=ConfigDict(), routes=ConfigDict()))
  # kind 'own', a teacher of the student's own weights: 'frozen' (initial ones),
  # 'live', 'lagged' (copied every `lag` optimizer steps), 'ema' (moved by
  # `rate` after each of them), 'folder' (other weights of the same model). ''
  # is that of the method's paper, else 'frozen'.
  c.teacher.own = ConfigDict(dict(weights='', lag=10, rate=0.05, folder=''))
  c.teacher.endpoint = ConfigDict(dict(
      url='', model='', key_env='', api='chat',  # or 'completions'
      budget_s=600.0, deadline_s=300.0, concurrency=64, retries=4,
      backoff_s=0.5, max_reply_mb=16.0,  # MiB per reply, unpacked
      extra=ConfigDict(), summary_extra=ConfigDict(),
      # Log-probs of given tokens under api 'completions' (docs/teachers.md):
      # 'echo', or vLLM's field 'prompt_logprobs'.
      scores='echo',
      max_logprobs=20,       # the largest top K; vLLM's own default
      score_entries=2**22))  # the most tokens x (K + 1) asked for at a time

  # The user's own words of prompts (docs/prompts.md; `zppo prompts` shows what
  # comes out). None keeps those of the task or of the package, which have the
  # paper's structure. A text has its {{placeholders}}.
  c.prompts = ConfigDict({name: placeholder(str) for name in (
      'system',              # a system message, for a chat template with one
      'plain',               # {{question}}, {{closing}}
      'closing',             # behind every question: how the answer is given
      # Behind the question, or, with {{question}} and {{closing}}, all of it:
      'bcq',                 # {{candidates}}
      'ncq',                 # {{answers}}, {{candidates}}
      'ncq_unlisted',        # {{candidates}}; no answer can be listed
      'hint',                # {{hints}}
      # One of them: {{response}}, {{answer}}, {{hint}}
      'candidate', 'answer', 'answer_separator', 'one_hint',
      # What the teacher is asked: {{response}}; {{question}}, {{response}}
      'compression', 'hint_request')})

  # The judge of questions of kind 'judge'; without a url there is none
  # (docs/verdicts.md).
  c.judge = ConfigDict(dict(
      url='', model='', key_env='', budget_s=600.0, deadline_s=60.0,
      concurrency=64, retries=4, backoff_s=0.5, max_reply_mb=16.0,
      extra=ConfigDict()))

  # Graded rewards (docs/your_task.md): weights by component, of the table in
  # verdicts/rewards.py or of the task's own; {} is 1 for right, 0 for wrong.
  # What counts as right: `decides` ('score', a component of the task, 'total')
  # must reach `threshold` (0: the task's own). overlong: the part of
  # algorithm.max_tokens over which the component soft_overlong falls.
  c.reward = ConfigDict(dict(
      weights=ConfigDict(), decides='score', threshold=0.0, overlong=0.2))

  # fit: 'refuse' a pool with prompts beyond the largest bucket, or 'drop' them.
  # fit: what becomes of questions whose prompts are too long ('refuse' or
  # 'drop'), which is longer than the largest bucket or than prompt_tokens (0:
  # no bound of its own; the paper: 4,096).
  c.data = ConfigDict(dict(task='', pool=ConfigDict(), repeat=False,
                           fit='refuse', prompt_tokens=0))
  # Questions that a pass draws several times, by how many of n rollouts of the
  # untrained student were right: a samples.jsonl of `zppo eval` over the pool's
  # files, and n + 1 factors >= 1 (docs/data.md).
  c.data.balance = ConfigDict(dict(samples='', factors=()))

  c.algorithm = a = ConfigDict()
  a.num_new = 384            # |X_new| = I x 96 prompts
  a.rollouts = 8             # G_S
  a.teacher_rollouts = 4     # G_T
  a.temperature = 1.0        # student and teacher
  a.top_p = 1.0
  a.top_k = 0
  a.max_tokens = 12288       # student response
  a.teacher_max_tokens = 12288
  a.tau = 0.5
  a.rho_replay = 0.25        # of |X_new|, added to it
  a.rho_aug = 0.25           # of |X_new|, added to it
  # Which of equally hard questions the teacher is asked, where rho_aug leaves
  # some out: a random order of the 'list' of hard questions, or of the
  # questions' 'name's. By name it is known early, so that a teacher behind an
  # endpoint is asked while other groups still draw (docs/teachers.md); each
  # question then draws its candidates from a generator of its own.
  a.ties = 'list'
  # For so many steps a question whose BCQ was all right or all wrong takes no
  # slot (a remedy of ours, docs/study.md; it needs the buffer). 0: Algorithm 1.
  a.rest_saturated = 0
  a.prefix_share = 0.4       # pope: of the stored reference solution
  a.prefix_share_schedule = ''  # one that moves, e.g. 'linear:0.8:0.2'
  a.buffer_capacity = 10000  # |B|max, first in first out
  a.updates = 4              # I, one pass over the rollout batch
  a.normaliser = 'without_zero'
  a.advantage_eps = 1e-6     # open
  a.advantage_scope = 'rollout_batch'  # open: or 'minibatch'
  a.clip = ConfigDict(dict(low=0.20, high=0.28, dual=10.0))
  a.correction = ConfigDict(dict(kind='none', bound=2.0))  # open
  # The objective of the policy term of rows that have another term or signal
  # too (docs/neighbours.md): 'clipped', 'gspo', 'cispo'; '' is 'clipped'.
  a.surrogate = ''
  # Other policy objectives (docs/methods.md). gspo clips the ratio of whole
  # sequences to [1 - low, 1 + high]; cispo bounds a token's weight by the same
  # form, where low = 1 is no lower bound. Its paper names no high.
  a.sequence_clip = ConfigDict(dict(low=3e-4, high=4e-4))
  a.weight_clip = ConfigDict(dict(low=1.0, high=4.0))
  # The penalty coefficient x KL(policy || student.weights), for rows with a
  # policy objective: 'k2', 'k3' (of the sampled token), 'full' (vocabulary).
  # route: whose rollouts it holds, as in the section `credit`, or 'not taught':
  # groups of which the divergence term teaches nobody.
  a.reference = ConfigDict(dict(kind='none', coefficient=0.0, route='all'))

  # Elastic weight consolidation: coefficient / 2 x sum of F (w - its start)^2,
  # with the F that `zppo fisher` wrote (docs/neighbours.md).
  a.ewc = ConfigDict(dict(coefficient=0.0, fisher=''))

  # Distillation rows alone read it (docs/distillation.md). '' is the row's own
  # value; what a row is made for it refuses to change.
  c.distil = ConfigDict(dict(
      divergence='',         # 'reverse', 'forward', 'jensen_shannon'
      beta=0.5,              # of jensen_shannon; open in the ZPPO paper
      # Numbers that move, e.g. 'linear:0.1:0.9', each in the place of the field
      # of its name; '': it stays.
      beta_schedule='', student_share_schedule='', mix_schedule='',
      # What is compared: 'whole' (vocabulary; a teacher of this process), or
      # the likeliest ids of the 'student' or 'teacher', or the 'sampled' token.
      support='',
      top=0,                 # likeliest ids that are kept; else 100
      rest='',               # the others: 'bucket', 'renormalised', 'dropped'
      temperature=1.0,       # the teacher's logits are divided by it
      # A teacher's temperature that moves, e.g. 'linear:0.6:1' over the run's
      # updates, in its place; for the support 'whole'. '': it stays.
      temperature_schedule='',
      # The student's, in the loss; 0: the sampler's (algorithm.temperature),
      # which a row with probability ratios always has.
      student_temperature=0.0,
      # The factor of the loss (None: that of the row's paper, else 1), by
      # optimizer step: 'constant', 'linear' or 'cosine' to coefficient_end in
      # coefficient_updates updates (0: all of the run's), or 'steps': ((update,
      # factor from it on), ...).
      coefficient=placeholder(float), coefficient_schedule='constant',
      coefficient_end=0.0, coefficient_updates=0, coefficient_steps=(),
      reducer='',            # a mean: 'token_mean', 'per_rollout', ...
      # gkd: the probability that a step is on the student's tokens, else on
      # those of the 'teacher' or 'stored' with the questions.
      student_share=0.5, other_states='teacher',
      keep='correct',        # which answers of others are trained on; or 'all'
      guides=1,              # npo: the most rollouts of a group they replace
      # What the student is compared with: 'plain' (the teacher), or 'geometric
      # (beta)', 'mixture(alpha)'. A number may move: 'geometric(linear:0.8:0)'.
      target='',
      anchor=0.5,            # trrd: alpha of p_T^(1 - alpha) p_old^alpha
      # What the teacher reads besides the question (docs/distillation.md); ''
      # is the row's own, and 'same' nothing. context_of: 'own', or the control
      # 'another', which shows another question's. context_level: how much the
      # context 'reflection' discloses, 0 to 4. material: a JSONL file of texts.
      context='', context_of='own', context_level=0, material='',
      # Rows that draw rollouts under that context: for the questions of which a
      # plain rollout is on a route ('cliff': none is right); behind which
      # prompt they are trained ('plain', 'context', 'both'); who draws them
      # ('policy', or the 'teacher' of kind 'own'). mix: alpha of pi_distill.
      asked_of='', trained_under='', drawn_by='policy', mix=0.5,
      max_missing=0.1))      # a run stops beyond this share without a score

  # Rows with terms alone read it (docs/neighbours.md): what multiplies log p of
  # a token (policy_), where the divergence counts, and who gets them. '' is the
  # row's own value; 'none' is nothing.
  c.credit = ConfigDict(dict(
      signal='',             # 'log_ratio', 'floored(0.17)', 'clipped(5)', ...
      combine='',            # signal and verdict: 'replace', 'add', 'multiply'
      coefficient='',        # factor of the signal
      discount='',           # gamma of its return-to-go; 0 is the token's own
      margin='',             # 'spread(0.4)', 'lift(0)', 'down(0)', 'mask(0)'
      margin_kind='',        # 'mean', 'extreme'
      margin_verdicts='',    # whose it reads: 'own', or 'permuted' (a control)
      # Right : wrong rollouts of a group; '1', 'inf', 'maths=1, code=1.2'.
      # 'random(1)' leaves out as many, whatever their verdicts (a control).
      balance='',
      base='',               # of 'extrapolated': 'initial' (student.weights)
      policy_route='',       # 'all', 'wrong', 'not cliff', 'sibling', ...
      policy_weights='',     # 'bounded(10) * first(2048)'
      policy_rollout_weights='',  # 'ppl_student(1)', 'keep_best(0.8)'
      route='', weights='', rollout_weights='',
      # The factor of -log p of answers that came with the step's questions, a
      # mean of its own; '0.1', 'linear:0.1:0'.
      gold=''))

  c.compression = ConfigDict(dict(
      cap=512,
      identity_below=0,      # open: every trace is compressed
      temperature=0.0))      # open

  # Hints of the methods `hint` (docs/paper.md), `sage` and `nurl`. source: the
  # 'teacher' writes them from its own right answers, or from the 'reference'
  # that is stored, or they are 'stored' with the questions (docs/data.md).
  c.hint = ConfigDict(dict(
      source='teacher',
      cap=512, temperature=0.0,  # of the teacher's reply; open
      max_characters=2048,   # a longer hint is rejected
      level=0,               # how much a written hint may tell, 1 to 3; 0: ZPPO
      material=''))          # a JSONL file of stored hints (zppo hints)

  # Low-rank adapters in the place of all weights (docs/lora.md): W x + alpha /
  # rank B A x, where W is frozen. rank 0 trains all weights. matrices () is q
  # (q_gate in Qwen3.5), k, v, o, gate, up, down. start: a folder of peft's or a
  # run, whose adapters the run begins with.
  c.lora = ConfigDict(dict(rank=0, alpha=32.0, matrices=(), start=''))

  c.optimizer = ConfigDict(dict(
      learning_rate=1e-6, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1,
      clip_norm=1.0,
      # How moments are stored between updates. The paper's moments are
      # bfloat16, rounded to nearest; a second moment then hardly falls with
      # b2 = 0.999 (docs/numerics.md). 'stochastic' keeps its mean right, and
      # second_moment_dtype='float32' keeps all of it ('' means state_dtype).
      state_dtype='bfloat16', state_rounding='nearest', second_moment_dtype='',
      # 'constant', 'linear', 'cosine' or 'wsd'. The rate rises to learning_rate
      # in warmup_steps and then falls to end_share of it until schedule_steps
      # (0: the run's steps); 'wsd' stays up until the last decay_steps of them.
      # All count training steps of algorithm.updates updates each.
      schedule='constant', warmup_steps=0, schedule_steps=0, decay_steps=0,
      end_share=0.0,
      total_updates=0,         # former schedule_steps, in updates: must be 0
      # Patterns of parameters that are not trained, e.g. ('embed', '*/mlp/*');
      # the error of an unknown one lists all names.
      frozen=()))

  # Devices along each axis. `slices` is the number of TPU slices of a run; they
  # lie along data, which must be a multiple of it.
  c.mesh = ConfigDict(dict(data=1, fsdp=1, tensor=1, slices=1))

  # Each engine compiles one program per bucket.
  c.shapes = s = ConfigDict()
  # True: fields of this section that have the values below are proposed from
  # the data's lengths and the memory, printed, and stored in config.json
  # (docs/your_task.md). responses: a samples.jsonl of an earlier run or of
  # `zppo eval`, whose responses' lengths become response_buckets.
  s.auto = False
  s.responses = ''
  s.prompt_buckets = (4096, 8704)
  s.row_buckets = (16384, 20992)
  # Tokens of a prompt that the cache of decoding slots holds, besides those of
  # the largest prompt bucket; (): prompt_buckets. Each has programs of its own,
  # which a small model compiles longer than they save.
  s.cache_buckets = ()
  # The rollouts of a prompt of fewer tokens each have a copy of its cache, and
  # those of a longer one share it. With copies, evaluations draw by the
  # programs of rollouts. 0: all share it.
  s.share_from = 0
  s.patch_buckets = ()       # patches of a prompt's images and videos
  # Prompts per prefill; some numbers are small, because slots become free a few
  # at a time. The engine has the slots that one such prefill fills.
  s.group_buckets = (4, 16, 96)
  # Positions of a prefill on each batch shard, for what a prefill needs beside
  # the weights (vLLM's max_num_batched_tokens); more prompts are split. Prompts
  # with images or videos count as the longest. One prompt per shard is the
  # least. None: no limit.
  s.prefill_tokens = placeholder(int)
  # Rollouts that decode at once (vLLM's max_num_seqs); a slot is refilled when
  # its rollout ends. A multiple of the data devices times rollouts, which is
  # also the least number: a smaller one counts as that. None: all
  # rollouts of a batch, here 480 x 8. The largest cache has 12,288 response
  # tokens, 8,704 prompt tokens and one prompt per slot. It takes 265 MiB per
  # slot and 33 GiB for Qwen3.5-0.8B and 2B, and 88 GiB for 4B and 9B, over all
  # data devices. If 8 slots share a prompt, it takes two thirds of that.
  s.slots = placeholder(int)
  s.slots = 128
  # Positions of a micro-batch on each batch shard (mesh.data x mesh.fsdp), so
  # that how many responses share a run of their prompt depends on no mesh.
  s.micro_tokens = 65536
  # How sequences lie in training rows (zppo_jax/learner/layouts.py): 'shared'
  # runs a prompt once for the responses of its group; 'padded' gives each row
  # its prompt; 'packed' does so too, and short sequences fill the places that
  # long sequences leave free.
  s.layout = 'shared'
  # Response lengths behind a shared prompt; (): algorithm.max_tokens alone.
  s.response_buckets = ()
  s.logprob_chunk = 1024     # positions whose logits exist at a time

  # Whether grading works beside the draws of the device and, with ties by
  # 'name', a teacher behind an endpoint too. The numbers of a run are the same
  # but for the last bits of the sampler's log-probs of NCQs and BCQs.
  c.overlap = True

  # Whether a thread compiles the programs that a run will likely need, while
  # others run. It changes no number, and works in runs of one process that may
  # use several cores.
  c.compile_ahead = True

  # The files that a run writes (docs/metrics.md).
  # journal: rollouts are kept on disk until a checkpoint holds their step, 8
  # bytes per token, so that a killed run draws none of them again and a signal
  # may end a step at once. False: a signal waits for the end of the step.
  c.checkpoint = ConfigDict(dict(every=10, keep=2, keep_every=0, journal=True))
  c.samples = ConfigDict(dict(every=1, questions=4))
  c.probe = ConfigDict(dict(every=10, questions=8))  # candidate copying
  # A run stops beyond any of these limits: the probability ratio; the share of
  # rollouts without a verdict; the steps in a row without a gradient, because
  # every group is all right or all wrong (0: no limit; the run warns anyway).
  # alarms: ('distil/copied > 0.9 for 20; stop', ...) on any metric
  # (runs/alarms.py); without '; stop' it only warns. A teacher that reads the
  # attempt has one of distil/copied, unless there is one here; 'distil/copied >
  # 1' is none.
  c.guard = ConfigDict(dict(max_ratio=1e6, max_ungraded=0.2, max_idle=20,
                            alarms=()))
  # Of distillation rows: words whose rate is a metric, e.g. ('wait', 'hmm'),
  # and phrases that show a leak of a context, e.g. ('the reference solution',).
  # overlap: K, the likeliest ids of both models that are compared (0: none; 16
  # in Rethinking OPD), which costs a product with the heads.
  # drift: questions of each evaluation split for which student.weights write a
  # text; each evaluation then tells how far the policy has left them, and how
  # many parameters have changed. It keeps a rollout copy of student.weights.
  # lift: every so many steps (0: never) the teacher answers some questions of
  # the step with and without its context.
  c.watch = ConfigDict(dict(
      words=(), phrases=(), overlap=0, drift=0,
      lift=ConfigDict(dict(every=0, questions=8))))
  c.log = ConfigDict(dict(tensorboard=True, wandb=''))

  # Functions of your own that a run tells of steps, evaluations, checkpoints
  # and its end, by import path (docs/your_task.md).
  c.run = ConfigDict(dict(callbacks=()))

  # The weights with the best evaluation are kept in WORKDIR/best, if `metric`
  # names a number of evaluations: a split, 'mean' of all splits, or a graded
  # reward, 'reward/SPLIT/total'. patience: the evaluations of it in a row that
  # were not better by more than `least`, after which the run stops early (0: it
  # does not).
  c.best = ConfigDict(dict(metric='', mode='max', patience=0, least=0.0))

  # Greedy accuracy on splits, every so many steps (0: at both ends alone).
  # cadence: split -> steps of its own, e.g. dict(aime=100, easy=0).
  c.eval = ConfigDict(dict(
      every=0, size=128, splits=('hard', 'easy'), cadence=ConfigDict(),
      sources=ConfigDict(),  # splits read from files (docs/data.md)
      benchmarks=''))        # folder of bench:NAME splits
  return configs.closed(c)
