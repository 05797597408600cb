"""What stays together when emoji are split: characters that differ in skin tone or gender only."""

_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))
_GENDER_SIGNS = frozenset({0x2640, 0x2642})
_JOINERS = frozenset({0x200D, 0xFE0F})
_IGNORED = _SKIN_TONES | _GENDER_SIGNS | _JOINERS
_PERSON = 0x1F9D1
_PEOPLE = {0x1F468: _PERSON, 0x1F469: _PERSON}  # man, woman


def concept_of(character: str) -> str:
    """Code points in hexadecimal without skin tone, gender sign, joiner, variation selector; man and woman are person.

    Characters made of nothing else (the five skin tones, the two gender signs) share the empty concept.

    >>> concept_of("👩🏽‍🚀") == concept_of("🧑‍🚀")
    True
    """
    points = (ord(letter) for letter in character)
    return "-".join(f"{_PEOPLE.get(point, point):x}" for point in points if point not in _IGNORED)
