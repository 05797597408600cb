"""A small made-up data set of pictures with tags in several scripts."""

import io

import numpy as np
from PIL import Image

from hybrid.data.vocabulary import TagVocabulary

TAGS = ("drawing", "water", "blue", "花", "red", "قلب", "музыка", "हाथ", "고양이", "sea lion", "<b>bold</b>", "flower")
"""By descending count."""


class Album:
    """What `hybrid.search.TaggedPictures` asks for; item i carries tag t if i is a multiple of t + 1."""

    def __init__(self, num_items=48):
        lists = [[t for t in range(len(TAGS)) if item % (t + 1) == 0] for item in range(num_items)]
        self.item_offsets = np.cumsum([0] + [len(tags) for tags in lists])
        self.item_tags = np.concatenate(lists).astype(np.int32)
        self.train_items, self.test_items = np.arange(0, num_items, 2), np.arange(1, num_items, 2)
        counts = [sum(t in lists[item] for item in range(num_items)) for t in range(len(TAGS))]
        self.vocabulary = TagVocabulary(list(TAGS), np.array(counts))
        self.names = [f"folder/{item:03}.png" for item in range(num_items)]
        self.licences = {"Made-up pictures": "CC0 <nobody>"}

    def describe(self, item):
        return {"title": f"picture {item} <i>"} if item % 2 else {}

    def png(self, item, size):
        buffer = io.BytesIO()
        Image.new("RGBA", (size, size // 2), (item * 5 % 256, 90, 160, 255)).save(buffer, "PNG")
        return buffer.getvalue()
