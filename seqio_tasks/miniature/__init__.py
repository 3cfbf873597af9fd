"""Ten miniature languages, generated from parameters that plant the causes of transfer."""

from seqio_tasks.miniature.concepts import LANGUAGES as LANGUAGES
from seqio_tasks.miniature.world import World as World
