"""gin settings of a world, a model and a task that are as small as can be."""

# A world of 64 training examples a task and language: 32 batches of 2, whole windows of the stream.
TINY_WORLD = """
World.train_examples = 64
World.eval_examples = 20
World.text_sentences = 200
data_config.configured.pocket_pieces = 400
"""
TINY_MODEL = """
EMB_DIM = 32
NUM_HEADS = 2
HEAD_DIM = 16
MLP_DIM = 48
NUM_ENCODER_LAYERS = 1
NUM_DECODER_LAYERS = 1
DTYPE = 'float32'
"""
TINY_TASK = """
TASK = 'xfer_pocket_nli'
SOURCE = 'en'
TARGETS = ('en', 'sw')
VOCAB_FILE = 'pocket'
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 4}
BATCH_SIZE = 4
EVAL_BATCH_SIZE = 16
DROPOUT_RATE = 0.1
"""
