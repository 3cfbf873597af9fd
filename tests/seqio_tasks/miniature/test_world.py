"""The miniature languages against readers that know a grammar and a lexicon, and nothing else."""

import collections
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence

import gin
import pytest

from seqio_tasks.errors import RequestError
from seqio_tasks.miniature import LANGUAGES, World, concepts, meaning
from seqio_tasks.miniature.concepts import SPLITS, TASKS
from seqio_tasks.miniature.grammar import Grammar

SMALL = World(train_examples=300, eval_examples=100, text_sentences=300)


@dataclasses.dataclass
class Reading:
    """What a reader makes of a clause: words by role, and where they stand."""

    roles: dict[int, str]
    subject: str = ""
    verb: str = ""
    object: str = ""
    negated: bool = False
    modifiers: frozenset[tuple[str, ...]] = frozenset()
    place: tuple[str, str] | None = None


class Reader:
    """Reads sentences by position: adposition side first, then slots in the clause's order."""

    def __init__(self, grammar: Grammar, lexicon: dict[str, str]):
        self.grammar = grammar
        self.concepts = {word: concept for concept, word in lexicon.items()}
        self.conjunction = lexicon["and"]

    def is_a(self, word: str, stratum: Sequence[str]) -> bool:
        return self.concepts.get(word) in stratum

    def clause(self, words: Sequence[str]) -> Reading:
        found = Reading({})
        rest = list(range(len(words)))
        modifiers: set[tuple[str, ...]] = set()
        adjectives: dict[int, str] = {}
        for i, word in enumerate(words):
            if self.concepts.get(word) == "not":
                found.negated = True
                rest.remove(i)
            elif self.is_a(word, concepts.STRATA["time"]):
                modifiers.add(("time", word))
                rest.remove(i)
            elif self.is_a(word, concepts.ADJECTIVES):
                adjectives[i + (1 if self.grammar.adjective == "before" else -1)] = word
                rest.remove(i)
        for i, word in enumerate(words):
            name = i + (1 if self.grammar.adposition == "before" else -1)
            if self.is_a(word, concepts.ADPOSITIONS) and name in rest:
                found.roles[name] = "L"
                found.place = (word, words[name])
                modifiers.add(("place", *found.place))
                rest.remove(i)
                rest.remove(name)
        for slot, i in zip(self.grammar.order, rest, strict=False):
            found.roles[i] = slot
            setattr(found, {"S": "subject", "V": "verb", "O": "object"}[slot], words[i])
            if i in adjectives:
                modifiers.add((slot, adjectives[i]))
        found.modifiers = frozenset(modifiers)
        return found

    def sentence(self, words: Sequence[str]) -> list[tuple[int, Reading]]:
        """Returns the clauses of a sentence with the position where each begins."""
        readings, start = [], 0
        for i, word in enumerate(words):
            if word in (self.conjunction, ".", "?"):
                readings.append((start, self.clause(words[start:i])))
                start = i + 1
        return readings

    def tags(self, words: Sequence[str], names: set[str]) -> list[str]:
        tags = ["O"] * len(words)
        for start, reading in self.sentence(words):
            for i, role in reading.roles.items():
                if words[start + i] in names and role in "SOL":
                    tags[start + i] = {"S": "B-PER", "O": "B-ORG", "L": "B-LOC"}[role]
        return tags


def reader(world: World, language: str) -> Reader:
    return Reader(world.grammar(language), world.lexicon(language))


def inference(premise: Reading, hypothesis: Reading, opposite: dict[str, str]) -> int:
    """Returns what one clause says about another: 0 entails, 1 leaves open, 2 denies."""
    told = (premise.subject, premise.verb, premise.object)
    asked = (hypothesis.subject, hypothesis.verb, hypothesis.object)
    if told == asked and premise.negated != hypothesis.negated:
        return 2
    if premise.negated or hypothesis.negated:
        return 0 if told == asked and premise.modifiers == hypothesis.modifiers else 1
    if told == asked:
        return 0 if hypothesis.modifiers <= premise.modifiers else 1
    swapped = told == asked[::-1]
    opposed = told == (asked[0], opposite[asked[1]], asked[2])
    return 2 if swapped or opposed else 1


def overlaps(world: World) -> list[float]:
    lexicons = [world.lexicon(language) for language in LANGUAGES]
    return [
        sum(a[concept] == b[concept] for concept in concepts.CONTENT_CONCEPTS)
        / len(concepts.CONTENT_CONCEPTS)
        for a, b in itertools.combinations(lexicons, 2)
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("knob", [0, 0.25, 0.5, 1])
def test_every_pair_shares_as_many_words_as_the_knob_says(knob, seed):
    shares = overlaps(World(seed=seed, lexical_overlap=knob))
    assert sum(shares) / len(shares) == pytest.approx(knob, abs=0.05)
    assert max(abs(share - knob) for share in shares) <= (0.15 if 0 < knob < 1 else 0)


def test_overlap_is_expected_to_equal_the_knob():
    shares = [share for seed in range(30) for share in overlaps(World(seed, lexical_overlap=0.4))]
    assert sum(shares) / len(shares) == pytest.approx(0.4, abs=0.01)


def test_raising_the_overlap_only_adds_shared_words():
    for language in LANGUAGES:
        few = World(lexical_overlap=0.3).lexicon(language)
        many = World(lexical_overlap=0.6).lexicon(language)
        own = World(lexical_overlap=0).lexicon(language)
        assert all(many[c] == few[c] for c in few if few[c] != own[c])
        assert all(many[c] in (few[c], World(lexical_overlap=1).lexicon("en")[c]) for c in few)


def test_no_two_words_of_a_world_are_the_same():
    world = World(lexical_overlap=0)
    lexicons = [world.lexicon(language) for language in LANGUAGES]
    lexicons.append(World(lexical_overlap=1).lexicon("en"))
    words = list(world.names())
    for lexicon in lexicons:
        words += [word for concept, word in lexicon.items() if concept not in concepts.TENSES]
        for verb, tense in itertools.product(concepts.VERBS, concepts.TENSES):
            words += [lexicon[tense] + lexicon[verb], lexicon[verb] + lexicon[tense]]
    assert len(set(words)) == len(words)
    assert len(world.names()) == concepts.N_NAMES
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_roles_can_be_read_off_by_those_who_know_the_order_and_by_nobody_else():
    names = set(SMALL.names())
    for spoken in LANGUAGES:
        examples = SMALL.examples("ner", spoken, "test")
        for known in LANGUAGES:
            read = Reader(SMALL.grammar(known), SMALL.lexicon(spoken))
            right = sum(read.tags(e["tokens"], names) == e["tags"] for e in examples)
            ours, theirs = SMALL.grammar(known), SMALL.grammar(spoken)
            if (ours.order, ours.adposition) == (theirs.order, theirs.adposition):
                assert right == len(examples), (known, spoken)
            else:
                assert right < 0.8 * len(examples), (known, spoken)


@pytest.mark.parametrize("language", LANGUAGES)
def test_entities_have_the_type_of_their_role(language):
    names = set(SMALL.names())
    examples = SMALL.examples("ner", language, "train")
    types: dict[str, set[str]] = collections.defaultdict(set)
    for example in examples:
        tokens, tags = example["tokens"], example["tags"]
        assert 5 <= len(tokens) <= 10
        assert len(tokens) == len(tags) == len(example["langs"])
        assert set(example["langs"]) == {language}
        assert [tag != "O" for tag in tags] == [token in names for token in tokens]
        tagged = zip(tokens, tags, strict=True)
        spans = [f"{tag[2:]}: {token}" for token, tag in tagged if tag != "O"]
        assert example["spans"] == spans
        assert len(spans) <= 3
        for span in spans:
            types[span[5:]].add(span[:3])
    assert 0.01 <= sum(not e["spans"] for e in examples) / len(examples) <= 0.12
    assert sum(len(seen) > 1 for seen in types.values()) > 0.8 * len(names)  # names have no type


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_logician_finds_the_labels(language):
    read, lexicon = reader(SMALL, language), SMALL.lexicon(language)
    prefixed = SMALL.grammar(language).affix == "prefix"

    def inflected(verb: str, tense: str) -> str:
        parts = (tense, verb) if prefixed else (verb, tense)
        return "".join(lexicon[part] for part in parts)

    opposite = {
        inflected(a, tense): inflected(b, tense)
        for pair in concepts.OPPOSITE_VERBS
        for a, b in itertools.permutations(pair)
        for tense in concepts.TENSES
    }
    for example in SMALL.examples("nli", language, "train"):
        ((_, hypothesis),) = read.sentence(example["hypothesis"].split())
        premises = read.sentence(example["premise"].split())
        verdicts = {inference(premise, hypothesis, opposite) for _, premise in premises}
        assert not {0, 2} <= verdicts, example  # no premise is of two minds
        expected = next((verdict for verdict in (0, 2) if verdict in verdicts), 1)
        assert example["label"] == expected, example


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced(split):
    counts = collections.Counter(e["label"] for e in SMALL.examples("nli", "fi", split))
    assert set(counts) == {0, 1, 2}
    assert max(counts.values()) - min(counts.values()) <= 1


def naive_bayes_accuracy(
    train: list[dict], test: list[dict], features: Callable[[dict], list]
) -> float:
    counts = [collections.Counter() for _ in range(3)]
    for example in train:
        counts[example["label"]].update(features(example))
    vocabulary = len(set().union(*counts))
    totals = [sum(count.values()) + vocabulary for count in counts]
    right = 0
    for example in test:
        scores = [
            sum(math.log((count[feature] + 1) / total) for feature in features(example))
            for count, total in zip(counts, totals, strict=True)
        ]
        right += scores.index(max(scores)) == example["label"]
    return right / len(test)


def test_half_an_example_does_not_tell_the_label():
    world = World(train_examples=2000, eval_examples=600)
    train, test = world.examples("nli", "en", "train"), world.examples("nli", "en", "test")

    def accuracy(features: Callable[[dict], list]) -> float:
        return naive_bayes_accuracy(train, test, features)

    assert accuracy(lambda e: e["hypothesis"].split()) < 0.4
    assert accuracy(lambda e: [len(e["hypothesis"].split())]) < 0.4
    assert accuracy(lambda e: e["premise"].split()) < 0.45
    assert accuracy(lambda e: [len(e["premise"].split())]) < 0.45


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_have_one_answer_and_it_is_given(language):
    read, lexicon = reader(SMALL, language), SMALL.lexicon(language)
    asked_roles = collections.Counter()
    for example in SMALL.examples("qa", language, "train"):
        context = example["context"]
        (answer,), (start,) = example["answers"]["text"], example["answers"]["answer_start"]
        assert context[start : start + len(answer)] == answer
        assert example["question"].endswith(" ?")

        ((_, question),) = read.sentence(example["question"].split())
        asked = {lexicon[word]: word for word in ("who", "what", "where")}
        by_role = {"S": question.subject, "O": question.object}
        by_role["L"] = question.place[1] if question.place else ""
        (role,) = [role for role, word in by_role.items() if word in asked]
        asked_roles[role] += 1
        matches = []
        for begin, clause in read.sentence(context.split()):
            same = clause.verb == question.verb
            same &= role == "S" or clause.subject == question.subject
            same &= role == "O" or clause.object == question.object
            if same:
                matches.append((begin, clause))
        ((begin, clause),) = matches
        (head,) = [begin + i for i, found in clause.roles.items() if found == role]
        words = context.split()
        assert words[head] in answer.split()
        first = sum(len(word) + 1 for word in words[:head])
        assert start <= first < start + len(answer)
        is_name = words[head] in SMALL.names()
        assert asked[by_role[role]] == ("where" if role == "L" else "who" if is_name else "what")
    assert min(asked_roles.values()) > 0.2 * sum(asked_roles.values())


def test_qa_ids_begin_with_the_language_and_are_unique():
    ids = [e["id"] for split in SPLITS for e in SMALL.examples("qa", "sw", split)]
    assert all(name.split("-")[0] == "swahili" for name in ids)
    assert len(set(ids)) == len(ids)


def test_text_says_every_word_and_every_name():
    world = World()
    texts = world.text("hi")
    assert len(texts) == len(set(texts)) == world.text_sentences
    said = {word for text in texts for word in text.split()}
    lexicon = world.lexicon("hi")
    expected = {lexicon[c] for c in lexicon if c not in (*concepts.TENSES, *concepts.VERBS)}
    for verb, tense in itertools.product(concepts.VERBS, concepts.TENSES):
        expected.add(lexicon[verb] + lexicon[tense])
    assert said == expected | set(world.names()) | {".", "?"}


def sentences(world: World, task: str, language: str, split: str) -> Iterator[str]:
    if task == "text":
        texts = world.text(language, split)
    else:
        examples = world.examples(task, language, split)
        fields = {"nli": ("premise", "hypothesis"), "qa": ("context", "question")}.get(task, ())
        texts = [e[field] for e in examples for field in fields]
        texts += [" ".join(e["tokens"]) for e in examples if task == "ner"]
    for text in texts:
        yield from text.replace(" . ", " .\n").split("\n")


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TASKS, "text"])
def test_no_sentence_is_in_two_splits_in_any_language(task):
    # In this world all ten languages are the same, so that equal meanings are equal texts.
    world = dataclasses.replace(SMALL, lexical_overlap=1.0, syntax_signal=0.0)
    said = {split: list(sentences(world, task, "en", split)) for split in SPLITS}
    for language in LANGUAGES:
        assert set(said["validation"]).isdisjoint(sentences(world, task, language, "train"))
        assert set(said["test"]).isdisjoint(sentences(world, task, language, "train"))
        assert said["test"] == list(sentences(world, task, language, "test"))  # translations
    assert set(said["validation"]).isdisjoint(said["test"])
    assert said["train"] != list(sentences(world, task, "hi", "train"))


@pytest.mark.parametrize("split", SPLITS)
def test_splits_have_the_sizes_that_are_set(split):
    world = World(train_examples=7, eval_examples=4, text_sentences=9)
    for task in TASKS:
        assert len(world.examples(task, "de", split)) == (7 if split == "train" else 4)
    assert len(world.text("de", split)) == (9 if split == "train" else 4)


def sample(world: World) -> str:
    rows = [
        [*world.text(language, split), *(world.examples(task, language, split) for task in TASKS)]
        for language in ("en", "sw", "hi")
        for split in SPLITS
    ]
    return json.dumps(rows, sort_keys=True)


def test_the_same_knobs_make_the_same_world():
    world = World(seed=5, train_examples=20, eval_examples=10, text_sentences=20)
    first = sample(world)
    concepts.words_of.cache_clear()
    meaning._evaluation_drafts.cache_clear()
    assert sample(dataclasses.replace(world)) == first
    assert sample(dataclasses.replace(world, seed=6)) != first


def test_a_larger_train_split_begins_with_the_smaller():
    larger = dataclasses.replace(SMALL, train_examples=400)
    for task in TASKS:
        assert larger.examples(task, "es", "train")[:300] == SMALL.examples(task, "es", "train")


def ring_distances(world: World) -> dict[tuple[str, str], float]:
    ring = concepts.Draws(world.seed, "ring").shuffled(LANGUAGES)
    places = {language: ring.index(language) for language in LANGUAGES}
    steps = {(a, b): abs(places[a] - places[b]) for a, b in itertools.combinations(LANGUAGES, 2)}
    return {pair: min(n, len(ring) - n) / len(ring) for pair, n in steps.items()}


@pytest.mark.slow
def test_neighbours_share_as_many_words_as_the_isoglosses_leave_them():
    shares: dict[float, list[float]] = {}
    for seed in range(30):
        world = World(seed, lexical_contrast=1.0)
        for pair, distance in ring_distances(world).items():
            shares.setdefault(distance, []).append(world.lexical_similarity(*pair))
    assert sorted(shares) == [0.1, 0.2, 0.3, 0.4, 0.5]
    for d, found in shares.items():
        assert sum(found) / len(found) == pytest.approx((1 - d) ** 3 + d**3, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_no_language_shares_more_with_all_others_than_another_does(seed):
    world = World(seed, lexical_contrast=1.0)
    means = [
        sum(world.lexical_similarity(one, other) for other in LANGUAGES if other != one) / 9
        for one in LANGUAGES
    ]
    assert all(mean == pytest.approx(0.45, abs=0.08) for mean in means), means


def test_words_of_an_area_are_no_synonyms_and_no_homonyms():
    world = World(lexical_contrast=1.0, lexical_overlap=0.0)
    lexicons = [world.lexicon(language) for language in LANGUAGES]
    for lexicon in lexicons:
        assert len(set(lexicon.values())) == len(lexicon)
    for concept in lexicons[0]:
        assert len({lexicon[concept] for lexicon in lexicons}) <= 3
    meanings = {(word, concept) for lexicon in lexicons for concept, word in lexicon.items()}
    assert len({word for word, _ in meanings}) == len(meanings)


def test_contrast_applies_to_its_share_of_the_concepts():
    uniform, half, full = (World(lexical_contrast=c).lexicon("sw") for c in (0.0, 0.5, 1.0))
    kept = [concept for concept in uniform if half[concept] == uniform[concept]]
    moved = [concept for concept in uniform if half[concept] == full[concept]]
    assert set(kept) | set(moved) == set(uniform)
    changed = sum(half[concept] != uniform[concept] for concept in uniform)
    assert 0.25 * len(uniform) < changed < 0.55 * len(uniform)


def test_similarities_are_shares_of_what_is_alike():
    world = World()
    grammars = {code: world.grammar(code) for code in ("en", "ru", "hi", "ar")}
    assert grammars["en"] == grammars["ru"]
    assert world.syntactic_similarity("en", "ru") == 1.0
    # Hindi: SOV, postpositions; Arabic: VSO, adjectives after, prefixes
    assert world.syntactic_similarity("en", "hi") == 0.5
    assert world.syntactic_similarity("ar", "hi") == 0.0
    assert World(syntax_signal=0.0).syntactic_similarity("ar", "hi") == 1.0
    assert World(lexical_overlap=1.0).lexical_similarity("ar", "hi") == 1.0
    assert World(lexical_overlap=0.0).lexical_similarity("ar", "hi") == 0.0


def test_the_sample_is_the_same_on_every_machine():
    """Change `FORMAT` with this digest: cached data of the old format must not be taken for new."""
    text = sample(World(train_examples=4, eval_examples=2, text_sentences=4))
    assert concepts.FORMAT == 1
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "3490cf65f336795ca411f1af5c6d73196095af5edc0b184145c3a1c28bf157be"
    )


def test_fingerprint_tells_knobs_apart():
    changed = {
        "seed": 1,
        "lexical_overlap": 0.6,
        "lexical_contrast": 0.5,
        "syntax_signal": 0.9,
        "train_examples": 1,
        "eval_examples": 1,
        "text_sentences": 1,
    }
    assert set(changed) == {field.name for field in dataclasses.fields(World)}
    prints = {World(**{name: value}).fingerprint() for name, value in changed.items()}
    assert len(prints | {World().fingerprint()}) == 1 + len(changed)
    assert World(syntax_signal=1).fingerprint() == World(syntax_signal=1.0).fingerprint()
    assert int(World().fingerprint(), 16) > 0


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("lexical_overlap", 1.5),
        ("lexical_contrast", -0.1),
        ("lexical_overlap", float("nan")),
        ("syntax_signal", -0.1),
        ("syntax_signal", "all"),
        ("seed", -1),
        ("seed", 0.5),
        ("train_examples", 0),
        ("eval_examples", 2.5),
        ("text_sentences", True),
        ("text_sentences", 10**12),
        ("lexical_overlap", True),
        ("seed", 10**20),
    ],
)
def test_a_bad_knob_is_named(knob, value):
    with pytest.raises(RequestError, match=f"World.{knob} must be a"):
        World(**{knob: value})


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: SMALL.examples("nil", "en", "train"), "task 'nil' .did you mean nli"),
        (lambda: SMALL.examples("nli", "eng", "train"), "language 'eng' .did you mean en"),
        (lambda: SMALL.examples("nli", "en", "valid"), "split 'valid' .did you mean validation"),
        (lambda: SMALL.text("en", "tests"), "split 'tests' .did you mean test"),
        (lambda: SMALL.text("zz"), "language 'zz'; choose from ar, bn"),
        (lambda: SMALL.grammar("hin"), "language 'hin' .did you mean hi"),
        (lambda: SMALL.lexicon("hin"), "language 'hin' .did you mean hi"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(call, complaint):
    with pytest.raises(RequestError, match=complaint):
        call()


def test_gin_sets_the_knobs():
    try:
        gin.parse_config("seqio_tasks.miniature.World.lexical_overlap = 0.125")
        assert World().lexical_overlap == 0.125
        assert World(lexical_overlap=0.75).lexical_overlap == 0.75
    finally:
        gin.clear_config()
