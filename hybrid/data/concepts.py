"""What stays together when emoji are split: characters that differ in skin tone, gender or direction only."""

_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))
_GENDER_SIGNS = frozenset({0x2640, 0x2642})
_JOINERS = frozenset({0x200D, 0xFE0F})
_IGNORED = _SKIN_TONES | _GENDER_SIGNS | _JOINERS
_FACING_RIGHT = 0x27A1
"""After others it turns a person round; alone it is an arrow."""
_EITHER = {
    **dict.fromkeys((0x1F468, 0x1F469), 0x1F9D1),  # man, woman: person
    **dict.fromkeys((0x1F466, 0x1F467), 0x1F9D2),  # boy, girl: child
    **dict.fromkeys((0x1F474, 0x1F475), 0x1F9D3),  # old man, old woman: older person
    **dict.fromkeys((0x1F934, 0x1F478), 0x1FAC5),  # prince, princess: person with crown
    **dict.fromkeys((0x1F930, 0x1FAC3), 0x1FAC4),  # pregnant woman, pregnant man: pregnant person
    0x1F57A: 0x1F483,  # man dancing: woman dancing, there is no other
}
"""Code points of one gender, with the one of any."""
_WRITTEN_OUT = {
    "1f385": "1f9d1-1f384",  # Santa Claus
    "1f936": "1f9d1-1f384",  # Mrs. Claus
    "1f46a": "1f9d1-1f9d1-1f9d2",  # family
    "1f46b": "1f9d1-1f91d-1f9d1",  # woman and man holding hands
    "1f46c": "1f9d1-1f91d-1f9d1",  # men
    "1f46d": "1f9d1-1f91d-1f9d1",  # women
    "1f46f": "1f9d1-1f430-1f9d1",  # people with bunny ears
    "1f48f": "1f9d1-2764-1f48b-1f9d1",  # kiss
    "1f491": "1f9d1-2764-1f9d1",  # couple with heart
    "1f91d": "1faf1-1faf2",  # handshake
    "1f93c": "1f9d1-1faef-1f9d1",  # people wrestling
    "1f6b9": "1f6ba",  # sign of a man, for that of a woman
    "1f1e7-1f1fb": "1f1f3-1f1f4",  # the flag of Norway, for Bouvet Island
    "1f1f8-1f1ef": "1f1f3-1f1f4",  # and for Svalbard and Jan Mayen
    "1f1e8-1f1f5": "1f1eb-1f1f7",  # the flag of France, for Clipperton Island
    "1f1f2-1f1eb": "1f1eb-1f1f7",  # and for Saint Martin
    "1f1e9-1f1ec": "1f1ee-1f1f4",  # the flag of the British Indian Ocean Territory, for Diego Garcia
    "1f1ea-1f1e6": "1f1ea-1f1f8",  # the flag of Spain, for Ceuta and Melilla
    "1f1ed-1f1f2": "1f1e6-1f1fa",  # the flag of Australia, for Heard and McDonald Islands
    "1f1fa-1f1f2": "1f1fa-1f1f8",  # the flag of the United States, for their outlying islands
}
"""Characters that stand for a sequence of which others are variants, a sign of the other gender, and flags that are
drawn alike."""
_TURNED = {
    "1f50e": "1f50d",  # magnifying glass
    "1f91c": "1f91b",  # fist
    "1faf1": "1faf2",  # hand held out
    "1faf8": "1faf7",  # pushing hand
    "1f44e": "1f44d",  # thumb
    **dict.fromkeys(("1f447", "1f448", "1f449"), "1f446"),  # pointing finger
    "1f313": "1f317",  # quarter of the moon
    "1f314": "1f316",  # gibbous moon
    "1f318": "1f312",  # crescent moon
    "1f31c": "1f31b",  # quarter with a face
    **dict.fromkeys(("27a1", "2b06", "2b07"), "2b05"),  # arrow
    **dict.fromkeys(("2197", "2198", "2199"), "2196"),  # slanting arrow
    "2935": "2934",  # curving arrow
    "21aa": "21a9",  # arrow with a hook
    **dict.fromkeys(("25c0", "1f53c", "1f53d"), "25b6"),  # triangle
    **dict.fromkeys(("23ea", "23eb", "23ec"), "23e9"),  # double triangle
    "23ee": "23ed",  # double triangle with a bar
}
"""Characters that are another one mirrored or turned. Flags and faces are not meant: they stand for something else."""
_ALIKE = _WRITTEN_OUT | _TURNED


def concept_of(character: str) -> str:
    """Code points in hexadecimal without skin tone, gender, direction, joiner and variation selector.

    Characters made of nothing else (the five skin tones, the two gender signs) share the empty concept.

    >>> concept_of("👩🏽‍🚀") == concept_of("🧑‍🚀")
    True
    >>> concept_of("👬") == concept_of("👩🏻‍🤝‍👨🏼")
    True
    >>> concept_of("🌓") == concept_of("🌗")
    True
    """
    points = [_EITHER.get(point, point) for point in map(ord, character) if point not in _IGNORED]
    while len(points) > 1 and points[-1] == _FACING_RIGHT:
        points.pop()
    sequence = "-".join(f"{point:x}" for point in points)
    return _ALIKE.get(sequence, sequence)
