"""Every store as its definition says, over a plain list of what it holds, newest last. Slow, and plain to see.

Nothing here is shared with the package but the plain records `Key`, `Entry` and `GridConfig`.
"""

import math

import torch

FIELDS = ("elevation", "azimuth", "radius", "timestep")


def cell(grid, key):
    """Each field divided by its cell size and rounded down; azimuth 360 is azimuth 0 if periodic."""
    place = {name: getattr(key, name) for name in FIELDS}
    if grid.periodic:
        place["azimuth"] %= 360.0
        if place["azimuth"] == 360.0:  # What Python gives for -1e-20 % 360.
            place["azimuth"] = 0.0
    return [math.floor(place[name] / getattr(grid, name)) for name in grid.order]


def bucket(grid, key):
    """(i + N1 j + N2 k + N3 l) mod n: the supplement's Listing 1 with the released code's primes."""
    i, j, k, l = cell(grid, key)  # noqa: E741
    return (i + 73856093 * j + 19349669 * k + 83492791 * l) % grid.num_buckets


def distance(grid, one, other):
    """Euclidean, in cells; azimuths differ by the shorter way round."""
    gaps = {name: abs(getattr(one, name) - getattr(other, name)) for name in FIELDS}
    gaps["azimuth"] = min(gaps["azimuth"] % 360.0, 360.0 - gaps["azimuth"] % 360.0)
    return math.sqrt(sum((gaps[name] / getattr(grid, name)) ** 2 for name in FIELDS))


def num_bytes(entries):
    """What the tensors of the entries take."""
    return sum(each.latents.untyped_storage().nbytes() + each.feature.untyped_storage().nbytes() for each in entries)


def softmax_blend(latents, entries):
    """Features weighted by softmax(-||latents - stored latents||), in the order of the entries; one alone is itself."""
    if len(entries) == 1:
        return entries[0].feature
    weights = torch.softmax(-torch.stack([(latents - each.latents).norm() for each in entries]), dim=0)
    features = torch.stack([each.feature for each in entries])
    return torch.einsum("n,n...->...", weights.to(features.dtype), features)


def cosine(one, other):
    """Of two features, in double precision."""
    pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    lengths = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
    return sum(a * b for a, b in pairs) / lengths


class BruteForceTable:
    def __init__(self, grid, *, queue_length, nearest, verify, max_bytes):
        self.grid, self.queue_length, self.nearest, self.verify = grid, queue_length, nearest, verify
        self.max_bytes = max_bytes
        self.held = []

    def queue(self, key):
        number = bucket(self.grid, key)
        return [each for each in self.held if bucket(self.grid, each.key) == number]

    def candidates(self, key):
        place = cell(self.grid, key)
        return [each for each in self.queue(key) if not self.verify or cell(self.grid, each.key) == place]

    def lookup(self, key, latents, row):
        """The entries found and their feature; None if there is none."""
        found = self.candidates(key)
        if not found:
            return None
        if not self.nearest:
            return found, softmax_blend(latents, found)
        least = min(distance(self.grid, key, each.key) for each in found)
        newest = [each for each in found if distance(self.grid, key, each.key) == least][-1]
        return [newest], newest.feature

    def insert(self, entry, row):
        if num_bytes([entry]) > self.max_bytes:
            return
        queue = self.queue(entry.key)
        if len(queue) == self.queue_length:
            self.held = [each for each in self.held if each is not queue[0]]
        while num_bytes([*self.held, entry]) > self.max_bytes:
            self.held = self.held[1:]
        self.held = [*self.held, entry]

    def expire(self, first_step):
        self.held = [each for each in self.held if each.step >= first_step]

    def clear(self):
        self.held = []


class BruteForceAdaptiveTable:
    def __init__(self, tables, *, gamma, max_bytes):
        self.tables, self.gamma, self.max_bytes = tables, gamma, max_bytes
        self.inserted = []  # Every entry that some table held before the last insert, and that insert's.
        self.measured = []  # (Number of the table, cell, s from then on), newest last.

    @property
    def held(self):
        return [each for each in self.inserted if any(each is other for table in self.tables for other in table.held)]

    def similarity(self, key):
        """The newest s of the key's cell in each table."""
        scores = []
        for number, table in enumerate(self.tables):
            place = cell(table.grid, key)
            scores.append([None, *(s for which, where, s in self.measured if (which, where) == (number, place))][-1])
        return scores

    def lookup(self, key, latents, row):
        filled = [number for number, table in enumerate(self.tables) if table.candidates(key)]
        if not filled:
            return None
        scores = [-math.inf if score is None else score for score in self.similarity(key)]
        best = max(scores[number] for number in filled)
        finest = next(number for number in filled if scores[number] == best)
        return self.tables[finest].lookup(key, latents, row)

    def insert(self, entry, row):
        before = self.similarity(entry.key)
        for number, table in enumerate(self.tables):
            cosines = [cosine(entry.feature, each.feature) for each in table.candidates(entry.key)]
            if cosines:
                mean = torch.tensor(sum(cosines) / len(cosines)).item()  # Rounded to float32.
                old = before[number]
                s = mean if old is None else self.gamma * old + (1 - self.gamma) * mean
                self.measured.append((number, cell(table.grid, entry.key), s))
        if num_bytes([entry]) > self.max_bytes:
            return
        while num_bytes([*self.held, entry]) > self.max_bytes:  # An entry counts once, however many tables hold it.
            oldest = self.held[0]
            for table in self.tables:
                table.held = [each for each in table.held if each is not oldest]
        for table in self.tables:
            table.insert(entry, row)
        self.inserted = [*self.held, entry]

    def expire(self, first_step):
        for table in self.tables:
            table.expire(first_step)

    def clear(self):
        for table in self.tables:
            table.clear()
        self.measured = []


class BruteForcePool:
    def __init__(self, *, length, max_bytes):
        self.length, self.max_bytes = length, max_bytes
        self.held = []

    def lookup(self, key, latents, row):
        return (self.held, softmax_blend(latents, self.held)) if self.held else None

    def insert(self, entry, row):
        if num_bytes([entry]) > self.max_bytes:
            return
        while len(self.held) >= self.length or num_bytes([*self.held, entry]) > self.max_bytes:
            self.held = self.held[1:]
        self.held = [*self.held, entry]

    def expire(self, first_step):
        self.held = [each for each in self.held if each.step >= first_step]

    def clear(self):
        self.held = []


class BruteForceLastFeature:
    def __init__(self, *, interval, max_bytes):
        self.interval, self.max_bytes = interval, max_bytes
        self.rows = []  # [row, entry, how often it served], newest last.

    @property
    def held(self):
        return [entry for _, entry, _ in self.rows]

    def lookup(self, key, latents, row):
        for item in self.rows:
            if item[0] == row and item[2] < self.interval - 1:
                item[2] += 1
                return [item[1]], item[1].feature
        return None

    def insert(self, entry, row):
        self.rows = [item for item in self.rows if item[0] != row]
        if num_bytes([*self.held, entry]) <= self.max_bytes:
            self.rows.append([row, entry, 0])

    def expire(self, first_step):
        self.rows = [item for item in self.rows if item[1].step >= first_step]

    def clear(self):
        self.rows = []
