"""Packaging of xfer-jax.

Engine and task libraries start at the versions that were tested, since JAX's family moves fast; the
others start at the first release made for NumPy 2. Upper bounds stop before the next release that
is free to break an interface. Exact tested sets stand in `constraints/`.
"""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"
JAX = ">=0.10.2,<0.13"

# Experiment files live at the top of the repository, where users look for them, and ship inside
# the package, so that no wheel installs a top-level `gin`: that name is gin-config's.
GIN_PACKAGES = {"xfer_jax.gin": "gin", "xfer_jax.t5x_configs": "t5x_configs"}

ENGINE = [
    f"jax{JAX}",
    "flax>=0.12.8,<0.13",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "tensorstore>=0.1.86,<0.2",
    "grain>=0.2.18,<0.3",
    "numpy>=2.1,<3",
    "ml_dtypes>=0.5.1,<1",
]

TASKS = [
    "seqio>=0.0.20,<0.1",
    "tensorflow>=2.21,<3",
    "tensorflow-text>=2.21,<3",
    "tensorflow-datasets>=4.9.10,<5",
    "sentencepiece>=0.2.1,<0.3",
    "regex>=2024.11.6,<2028",  # versions are dates
    "importlib_resources>=6.4,<8",  # TFDS 4.9.10 imports it and does not declare it
]

ANALYSIS = [
    "lang2vec>=1.1.2,<2",
    "langcodes>=3.5,<4",
    "pycountry>=24.6.1",
    "urielplus>=1.3,<2",  # of its tables only that of Glottocodes is read
    "setuptools>=70,<81",  # lang2vec imports pkg_resources, which newer setuptools drops
    "pandas>=3,<4",
    "scipy>=1.14.1,<2",
    "threadpoolctl>=3.5,<4",
    "statsmodels>=0.14.4,<0.16",
    "matplotlib>=3.9.2,<4",
    "jinja2>=3.1.6,<4",
]

RUNNING = [
    "absl-py>=2.1,<3",
    "gin-config>=0.5,<0.6",
    "pydantic>=2.11,<3",
    "tensorboardX>=2.6.2.2,<3",
    "tqdm>=4.66,<5",
    "rich>=13.9,<16",
]

EXTRAS = {
    "cuda": [f"jax[cuda13]{JAX}"],
    "tpu": [f"jax[tpu]{JAX}"],
    "test": [
        "pytest>=8.3,<10",
        "hypothesis>=6.120,<7",
        "pytest-xdist>=3.8,<4",
        "PyYAML>=6,<7",  # the profiles of Snakemake that are written are read
        "safetensors>=0.8,<0.9",  # what is written here is read by the library itself
        "ruff>=0.17.6,<0.18",  # a newer minor version may format differently
        "mypy>=2.4,<3",
        "import-linter>=2.17,<3",
    ],
    # Hugging Face's mT5, which the engine's logits and checkpoints are compared with; and what
    # XTREME scores tags with.
    "parity": [
        "seqeval==1.2.2",
        "torch==2.13.0",
        "transformers>=5.23,<6",
    ],
    # The documentation's site, see mkdocs.yml.
    "docs": [
        "mkdocs>=1.6.1,<2",
        "mkdocs-material>=9.7,<10",
        "mkdocstrings-python>=2,<3",
    ],
    # T5X itself is not on PyPI, and pip cannot resolve the six git dependencies of its setup.py.
    # This extra brings what T5X needs from PyPI; T5X is then three commits without dependencies:
    #   pip install --no-deps \
    #     git+https://github.com/google-research/t5x@cc342d4 \
    #     git+https://github.com/google/airio@69897df \
    #     git+https://github.com/google-research/jestimator@326824a
    "t5x": [
        "cached_property>=2,<3",
        "chex>=0.1.92,<0.2",
        "clu>=0.0.12,<0.1",
        "fiddle>=0.3.1,<0.4",
        "tensorboard>=2.20,<3",
    ],
}

setup(
    name="xfer-jax",
    version="0.1.0",
    description=(
        "Fine-tune mT5 in one language, learn how well it does in the others, why, and how many "
        "examples it would take to do better"
    ),
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="The xfer-jax authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="jax flax mt5 t5x seqio multilingual cross-lingual transfer",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
    ],
    packages=[
        *find_packages(include=["xfer_jax", "xfer_jax.*", "seqio_tasks", "seqio_tasks.*"]),
        *GIN_PACKAGES,
    ],
    package_dir=GIN_PACKAGES,
    package_data={
        "xfer_jax.study": ["templates/*"],
        "xfer_jax.report": ["templates/*", "templates/sections/*"],
    }
    | {name: ["**/*.gin", "**/*.md"] for name in GIN_PACKAGES},
    python_requires=">=3.11",
    install_requires=[*ENGINE, *TASKS, *ANALYSIS, *RUNNING],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["xfer-jax = xfer_jax.cli.main:main"]},
)
