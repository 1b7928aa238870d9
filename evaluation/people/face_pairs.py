"""Pairs of images of the same and of different people: all of them where that is cheap, else a balanced sample."""
from typing import NamedTuple

import numpy as np

from recognition import verification

MOST = 200_000              # pairs of either kind, above which a sample is taken
_NUMBERS = 1 << 22          # numbers of embeddings that are in memory at once, on either side of pairs


class PairDistances(NamedTuple):
    """Distances of pairs of images, in ascending order."""
    distances: np.ndarray           # float64 [n]: 1 - cosine of embeddings of length 1
    same: np.ndarray                # bool [n]: whether both show one person
    first: np.ndarray               # int32 [n]: the identity of the first image, a label of the Subject
    second: np.ndarray              # int32 [n]: that of the second one
    sampled: bool                   # whether there are more pairs than these

    def of(self, same):
        """Choose the distances of pairs of the same person, or of different people -> [m]."""
        return self.distances[self.same == same]


def measure(subject, most=MOST, seed=0, kinds=(True, False)):
    """Measure the distances of pairs of a Subject's images -> PairDistances.

    Of either kind there are all pairs, or a sample of `most` where there are more; `kinds` leaves one out. In a sample,
    all identities have as many pairs of the same person, as far as they have so many. The pairs of different people are
    drawn by people first: each pair of people is as likely, however many images they have. No pair is there twice.
    """
    labels, rng = np.asarray(subject.images.labels), np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    found, sampled = [], False
    for same in kinds:
        draw = _same_pairs if same else _different_pairs
        places, complete = draw(sizes, most, rng)
        found.append((order[places], np.full(len(places), same)))
        sampled = sampled or not complete
    pairs, same = (np.concatenate(parts) for parts in zip(*found))
    distances = between(subject.features, pairs)
    ranks = np.argsort(distances, kind="stable")
    first, second = labels[pairs[ranks]].T.astype(np.int32)
    return PairDistances(distances[ranks], same[ranks], first, second, sampled)


def between(features, pairs):
    """Compute the cosine distances [n] of `pairs` [n, 2] of images with `features` [N, E] of length 1."""
    distances = np.empty(len(pairs))
    step = max(1, _NUMBERS // features.shape[1])
    for start in range(0, len(pairs), step):
        first, second = pairs[start:start + step].T
        # Half the squared distance of vectors of length 1 is 1 - cosine, without its cancellation for near ones.
        distances[start:start + step] = verification.distance(features[first], features[second], metric=0) / 2
    return distances


def _count_different(sizes):
    """Count the pairs of images of different people, of whom there are `sizes` [C] images."""
    sizes = sizes.astype(object)                    # Python's numbers, which do not overflow
    return int((sizes.sum() ** 2 - (sizes ** 2).sum()) // 2)


def _same_pairs(sizes, most, rng):
    """Choose pairs of places of the same identity -> (int64 [n, 2], whether these are all).

    Images are numbered by identity: those of the first one first, `sizes` [C] of each.
    """
    sizes = sizes.astype(np.int64)
    counts, starts = sizes * (sizes - 1) // 2, np.cumsum(sizes) - sizes
    complete = counts.sum() <= most
    if complete:
        numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        owners = np.repeat(np.arange(len(sizes)), counts)
    else:
        share = _fair_share(counts, most)
        chosen = [np.arange(count) if count <= share else rng.choice(count, share, replace=False) for count in counts]
        numbers, owners = np.concatenate(chosen), np.repeat(np.arange(len(sizes)), [len(each) for each in chosen])
        if len(numbers) > most:                     # more identities than pairs are wanted
            some = rng.choice(len(numbers), most, replace=False)
            numbers, owners = numbers[some], owners[some]
    later = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) // 2).astype(np.int64)   # pair number l(l-1)/2 + e
    later -= later * (later - 1) // 2 > numbers     # where the root was rounded up
    earlier = numbers - later * (later - 1) // 2
    return np.stack([earlier, later], 1) + starts[owners, None], complete


def _fair_share(counts, most):
    """Find the largest number of pairs an identity may have, so that all together have at most `most`; at least 1."""
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= most else (low, middle - 1)
    return low


def _different_pairs(sizes, most, rng):
    """Choose pairs of places of different identities, as `_same_pairs` does."""
    sizes = sizes.astype(np.int64)
    ends, total = np.cumsum(sizes), int(sizes.sum())
    if _count_different(sizes) <= most:
        owner_ends = np.repeat(ends, sizes)
        counts = total - owner_ends                 # of images of later identities
        first = np.repeat(np.arange(total), counts)
        second = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(owner_ends, counts)
        return np.stack([first, second], 1), True
    people = np.flatnonzero(sizes)
    one = np.arange(most) % len(people)
    other = (one + rng.integers(1, len(people), most)) % len(people)
    places = [ends[people[each]] - 1 - rng.integers(sizes[people[each]]) for each in (one, other)]
    return np.unique(np.sort(np.stack(places, 1), axis=1), axis=0), False
