"""The panels of a page, and the text that explains each of them.

Names are those of docs/metrics.md. A panel whose names no run has is left out;
the end of its section names it. A metric that no panel names has a chart of its
own in the section "Other metrics" (figures.others).
"""

import dataclasses

FRACTION = (0.0, 1.0)
FROM_ZERO = (0.0, None)
FREE = (None, None)


@dataclasses.dataclass(frozen=True)
class Panel:
  """Names of metrics.jsonl that share a chart.

  Attributes:
    title: the name of what is drawn.
    unit: the unit of the y axis.
    names: patterns of names, e.g. 'stop/*'.
    what: one or two sentences for a person who sees the chart for the first
      time.
    y: (low, high) that the y axis includes; None lets an end follow the data.
  """
  title: str
  unit: str
  names: tuple[str, ...]
  what: str
  y: tuple = FRACTION


LEARNING = (
    Panel('Accuracy by kind of prompt', 'fraction right',
          ('accuracy/plain', 'accuracy/bcq', 'accuracy/ncq',
           'accuracy/prefix', 'accuracy/hint'),
          'The share of right rollouts of a step, whatever graded rewards '
          'they earn (those are components of the reward). plain: the '
          'question alone; '
          'bcq: with one right and one wrong candidate; ncq: with the '
          "student's own wrong answers; prefix: behind the beginning of a "
          "right answer of the teacher's; hint: with a hint. All but plain "
          'are asked about hard questions only.'),
    Panel('Plain accuracy by split of the training questions',
          'fraction right', ('accuracy/plain/*',),
          'New questions of the step, as drawn, before they were trained on.'),
    Panel('Candidate copying alarm', 'fraction right',
          ('probe/plain', 'probe/bcq'),
          'Questions that the student mostly solves, asked alone (plain) and '
          'with one right and one wrong answer of its own as candidates '
          '(bcq). bcq falling under plain means that it follows candidates '
          'rather than its own solution.'),
    Panel('Wrong candidate followed in the probe', 'fraction of answers',
          ('probe/follows_wrong',),
          'Answers that repeat the wrong candidate, on questions that the '
          'student mostly solves. It should stay near 0.'),
    Panel('Components of the reward', 'mean', ('reward/*',),
          'Of plain rollouts: each component that reward.weights names, in '
          '[0, 1], and total, the weighted sum.', FREE),
    Panel('Rollouts that teach', 'fraction of rollouts',
          ('advantage/positive',),
          'Rollouts with an advantage above 0.'),
    Panel('Groups without a signal', 'fraction of groups',
          ('trivial/plain', 'trivial/bcq', 'trivial/ncq',
           'trivial/prefix', 'trivial/hint'),
          'Groups whose rollouts are all right or all wrong: they give no '
          'gradient.'),
)

SUPERVISED = (
    Panel('Loss of supervised steps', 'nats per trained token', ('sft/loss',),
          'Mean over all trained tokens of a step: the words and end tokens of '
          'assistants.', FROM_ZERO),
    Panel('Tokens that were the likeliest', 'fraction of trained tokens',
          ('sft/accuracy',),
          'Trained tokens that the student, given those before them, held for '
          'the likeliest.'),
    Panel('Learning rate', 'rate', ('learning_rate',),
          'Of the step, by optimizer.schedule.', FROM_ZERO),
    Panel('Speed', 'tokens per second', ('sft/tokens_per_second',),
          'Tokens of the conversations, prompts included, padding left out.',
          FROM_ZERO),
    Panel('Padding', 'fraction of positions', ('update/padding',),
          'Positions of micro-batches that hold no token.'),
)

HEALTH = (
    Panel('Loss', 'objective, mean over trained tokens', ('update/loss',),
          'What the updates of a step pulled down. For a policy objective the '
          'value says little: advantages of a group sum to 0.', FREE),
    Panel('Learning rate', 'rate', ('learning_rate',),
          'Of the step, by optimizer.schedule.', FROM_ZERO),
    Panel('Entropy', 'nats per token', ('update/entropy',),
          'Of the policy on trained tokens. A fall to 0 ends exploration.',
          FROM_ZERO),
    Panel('Gradient norm', 'norm before clipping', ('update/grad_norm',),
          'Mean over the updates of a step. Watch for sudden jumps.',
          FROM_ZERO),
    Panel('Extremes of the probability ratio', 'ratio new / old',
          ('update/ratio_max', 'update/ratio_min'),
          'Largest and smallest ratio of a token under the policy being '
          'updated to the one that sampled. 1: unchanged.', FREE),
    Panel('Clipped tokens', 'fraction of response tokens',
          ('update/clip_low', 'update/clip_high', 'update/clip_dual'),
          'Tokens whose update a clip bound held back.', FROM_ZERO),
    Panel('Clipped responses', 'fraction of rollouts',
          ('update/sequence_clip_low', 'update/sequence_clip_high'),
          'gspo: responses whose update a bound of the sequence ratio held '
          'back.', FROM_ZERO),
    Panel('KL to the reference', 'nats per token', ('reference/kl',),
          'How far the policy has moved from student.weights, on trained '
          'tokens (algorithm.reference).', FROM_ZERO),
    Panel('Stored answers', 'nats per token', ('gold/nll',),
          'Mean -log p of answers that came with the questions (credit.gold).',
          FROM_ZERO),
    Panel('Distance of the parameters', 'penalty', ('ewc/penalty',),
          'How far the parameters have left student.weights, by their Fisher '
          'information (algorithm.ewc).', FROM_ZERO),
    Panel('Gap between sampler and trainer', 'nats',
          ('sampler_trainer/logp_gap_max', 'sampler_trainer/logp_gap_mean'),
          'Largest difference of the log-prob that the sampler stored and the '
          'one that the trainer computes; the mean where a correction is on or '
          'rollouts have weights of their own (student.rollout_weights). '
          'Without those it should be rounding.', FROM_ZERO),
    Panel('Importance correction', 'mean weight; fraction of tokens',
          ('correction/weight', 'correction/held'),
          'Mean weight of trained tokens, and those whose weight the bound '
          'truncated or masked.', FREE),
    Panel('Response length', 'tokens, mean',
          ('length/plain', 'length/bcq', 'length/ncq', 'length/prefix',
           'length/hint'),
          'Mean length of a response, end token included.', FROM_ZERO),
    Panel('Why generation stopped', 'fraction of rollouts',
          ('stop/*',),
          'end: the student ended its answer; length: the token limit cut it, '
          'which counts as wrong.'),
    Panel('Verdicts', 'fraction of rollouts', ('verdict/*',),
          'All prompt kinds together. ungraded: the gold answer was '
          'unreadable, or grading met a deadline or crashed; such rollouts '
          'have no reward, and a run with too many of them stops.'),
)

TEACHER = (
    Panel('Teacher', 'fraction', ('teacher/answered', 'teacher/accuracy'),
          'accuracy: of all its rollouts; answered: hard questions with at '
          'least one right teacher rollout, which BCQ needs.'),
    Panel('Answers of the teacher that never came', 'answers per step',
          ('teacher/wanted', 'teacher/failed/*'),
          'wanted: all that were asked for, summaries included; the others: '
          'missing ones by cause.', FROM_ZERO),
    Panel('Requests to the teacher', 'per step',
          ('teacher/requests', 'teacher/retries', 'teacher/fallbacks'),
          'requests: sent, retries included; fallbacks: hard questions without '
          'any answer, whose NCQ alone remains.', FROM_ZERO),
    Panel('Distillation: divergence', 'nats per taught token',
          ('distil/divergence',),
          'What the method pulls down, without its coefficient: the divergence '
          'of the next-token distributions, or, of sampled tokens alone, the '
          'mean of log p_student - log p_teacher.', FROM_ZERO),
    Panel('Distillation: entropies', 'nats per taught token',
          ('distil/student_entropy', 'distil/teacher_entropy',
           'distil/entropy_gap'),
          'Of both next-token distributions on taught tokens, and their mean '
          'absolute difference.', FROM_ZERO),
    Panel('Distillation: agreement on the kept ids', 'nats per taught token',
          ('distil/kept_advantage',),
          'Sum of p_student (log p_teacher - log p_student) over the kept ids, '
          'both renormalised: it rises to 0 as the two agree there.', FREE),
    Panel('Distillation: overlap of the likeliest ids', 'fraction',
          ('distil/overlap_ratio', 'distil/cliff'),
          "overlap_ratio: the teacher's watch.overlap likeliest ids that are "
          "the student's too; where few are, little is learnt. cliff: "
          "positions whose likeliest id of the teacher's the student gives "
          'less than 0.01.'),
    Panel('Distillation: agreement on the common ids', 'nats per taught token',
          ('distil/overlap_advantage',),
          'Minus the divergence over the ids that are among the likeliest of '
          'both, renormalised: it rises to 0 as the two agree there.', FREE),
    Panel('Distillation: mass', 'probability',
          ('distil/overlap_mass', 'distil/kept_mass_student',
           'distil/kept_mass_teacher'),
          'overlap: what both distributions share; kept: what each has on the '
          'ids that are compared. Student mass that leaves the kept ids is '
          'pulled by no term but the bucket.'),
    Panel('Distillation: what was taught', 'fraction',
          ('distil/taught', 'distil/missing', 'distil/student_states'),
          'taught: trained tokens with numbers of the teacher; missing: '
          'response tokens whose scores never came; student_states: 1 where '
          "the step trained on the student's own tokens."),
    Panel('Distillation: contexts of the teacher', 'fraction of rollouts',
          ('context/taught',),
          'Rollouts for which the teacher had something to read '
          '(distil.context); the others are not taught.'),
    Panel('Distillation: length of what the teacher reads', 'tokens, mean',
          ('context/tokens',),
          'Of its prompt, question and context together.', FROM_ZERO),
    Panel('Distillation: what the context is worth', 'fraction right',
          ('context/accuracy', 'context/accuracy_without', 'context/lift'),
          "The teacher's answers with and without its context, and the "
          'difference (watch.lift). A lift of 0 has nothing to teach.', FREE),
    Panel('Distillation: rollouts without a lesson', 'rollouts per step',
          ('context/untaught/*',),
          'By cause: there was nothing to show, only the rollout itself, a '
          'hint that tells the answer, or a prompt that fits no bucket.',
          FROM_ZERO),
    Panel('Rollouts under a context: accuracy', 'fraction',
          ('drawn/accuracy',),
          'Of rollouts that the model drew while it read what the student does '
          'not see.'),
    Panel('Rollouts under a context: lift', 'difference of accuracies',
          ('drawn/lift',),
          'Their accuracy minus that of the same questions asked plain.', FREE),
    Panel('Rollouts under a context: how many', 'per step',
          ('drawn/questions', 'drawn/trained', 'drawn/trained_in_context',
           'drawn/copies', 'drawn/over_long', 'drawn/untold/*'),
          'trained: kept behind the plain question, or in their context; '
          'copies: those that repeat it word for word; over_long: those that '
          'no training row holds; untold: questions '
          'without a context, by cause.', FROM_ZERO),
    Panel('Distillation: coefficient', 'factor', ('distil/coefficient',),
          'The factor of the distillation loss, mean over the updates.',
          FROM_ZERO),
    Panel('Distillation: disagreement by depth', 'nats per token',
          ('distil/depth_*',),
          'Mean |log p_teacher - log p_student| in each tenth of a response. '
          'Where only the first tenths have some, first(n) spares the rest.',
          FROM_ZERO),
    Panel('Distillation: divergence by depth', 'nats per taught token',
          ('distil/divergence_depth_*',),
          'The divergence in each tenth of a response. Of sampled tokens alone '
          'it is the mean of log p_student - log p_teacher, which may be '
          'negative.', FREE),
    Panel('Distillation: log-ratio of sampled tokens', 'nats per token',
          ('distil/log_ratio', 'distil/margin'),
          'log_ratio: mean log p_teacher - log p_student; margin: by how much '
          'it is higher in right rollouts of a group than in wrong ones.',
          FREE),
    Panel('Distillation: teacher and verdicts', 'fraction of pairs',
          ('distil/order_consistency',),
          'Pairs of a right and a wrong rollout of a group in which the '
          'teacher prefers the right one. Below a half it teaches against the '
          'verdicts.', FROM_ZERO),
    Panel('Distillation: signs of collapse', 'fraction',
          ('distil/copied', 'distil/repetitive', 'distil/repeated_4grams',
           'distil/phrase_rate', 'distil/beyond_10'),
          'copied: tokens that the teacher reads in its context; repetitive: '
          'texts that compress to a tenth; phrase_rate: texts that hold a '
          'phrase of watch.phrases; beyond_10: tokens on which the two differ '
          'by more than 10 nats.', FROM_ZERO),
    Panel('Distillation: how a group explores', 'fraction',
          ('distil/branches', 'distil/parting'),
          'branches: branches of the tree of a group\'s responses, per '
          'response; parting: the part that two responses begin alike with.'),
    Panel('Distillation: texts of others', 'per step',
          ('distil/lessons', 'distil/guides', 'distil/over_long'),
          'lessons: rollouts that were trained on, whoever wrote them; guides: '
          "the teacher's answers in the student's groups; "
          'over_long: answers of others that no training row holds.',
          FROM_ZERO),
    Panel('Distillation: watched words', 'per 1,000 words',
          ('distil/word_rate',),
          'Words of watch.words. Epistemic ones fall when a student stops to '
          'doubt.', FROM_ZERO),
    Panel('Compression of candidates', 'traces per step', ('compression/*',),
          'Candidates sent to be shortened, kept as they are, refused as too '
          'long, or thrown away for a reason.', FROM_ZERO),
    Panel('Hints', 'hints per step', ('hint/*',),
          'asked: hints that the teacher was asked for; kept: hints that the '
          'student was shown; over_bound: requests that are too long for the '
          'teacher; failed: hints that are missing or do not pass the '
          'zero-spoiler filter, by cause.', FROM_ZERO),
)

BUFFER = (
    Panel('Questions in the replay buffer', 'questions', ('buffer/size',),
          'After the step.', FROM_ZERO),
    Panel('Buffer traffic', 'questions per step',
          ('buffer/admitted', 'buffer/graduated', 'buffer/evicted'),
          'admitted: the student failed them; graduated: it solved them on '
          'replay; evicted: pushed out by newer ones when full.', FROM_ZERO),
    Panel('Visits of waiting questions', 'visits, mean',
          ('buffer/visits_mean',),
          'How often the questions that are in the buffer were replayed since '
          'they came in.', FROM_ZERO),
)

BESIDE = (
    Panel('Graded rewards of evaluations', 'mean', ('reward/*',),
          'Of greedy answers: by split each component that reward.weights '
          'names, in [0, 1], and total, the weighted sum.', FREE),
    Panel('Distance from student.weights', 'nats per token', ('drift/kl',),
          'KL(student.weights || policy) on texts that student.weights wrote '
          '(watch.drift). It predicts what is forgotten.', FREE),
    Panel('Changed parameters', 'fraction of parameters',
          ('drift/changed_share',),
          'Parameters that differ from student.weights after rounding to '
          'bfloat16.'))
