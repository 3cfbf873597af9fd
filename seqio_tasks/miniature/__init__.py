"""Ten miniature languages: a world whose causes of transfer are planted, made here by its knobs."""

from seqio_tasks.miniature.concepts import LANGUAGES as LANGUAGES
from seqio_tasks.miniature.world import World as World
