"""Distances between two sets of features: KID, and the Frechet distance of normal distributions.

KID is the kernel distance of Binkowski et al. 2018, "Demystifying MMD GANs": the square of the maximum mean discrepancy
with the kernel (x.y / d + 1)^3. Its estimate (Gretton et al. 2012, eq. 3) leaves out pairs of an image with itself,
which makes it unbiased for independent images. Images of an identity are not: all pairs of an identity with itself are
left out here. So sets of other sizes and other numbers of identities can be compared, and the estimate of two equal
distributions is 0 on average, and below 0 in half of cases. Where each identity has one image, it is Gretton's.
The Frechet distance (Dowson, Landau 1982; Heusel et al. 2017, eq. 6) is too large for small sets, so only figures of
the same number of images can be compared.
"""
import numpy as np
import scipy.linalg

SUBSETS = 50                # of KID
BLOCK = 2_000_000           # entries of a matrix of all pairs that are computed at a time: 16 MB
WIDE = 256                  # features from which on draws of the Frechet distance take long: their cube counts,
FEW_REPEATS = 50            # so only so many are made


def kernel(first, second):
    """Compute the kernel (x.y / d + 1)^3 of all pairs of features [n, d] and [m, d] -> [n, m], less 1.

    A constant drops out of the distance. Without it, little is lost by rounding where the kernel is near 1.
    """
    products = first @ second.T
    products /= first.shape[1]
    return products * (3 + products * (3 + products))


def kid(first, second, first_labels, second_labels):
    """Estimate KID from features [n, d] and [m, d] of identities [n] and [m].

    Pairs of an identity with itself are left out. Raises ValueError where a set has a single identity.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    within = _mean_of_strangers(first, first_labels) + _mean_of_strangers(second, second_labels)
    return float(within - 2 * kernel(first, second).mean())


def _mean_of_strangers(features, labels):
    """Compute the mean of the kernel over all pairs of images of different identities."""
    different = labels[:, None] != labels
    if not different.any():
        raise ValueError("one identity has no pairs of different ones")
    return kernel(features, features).sum(where=different) / different.sum()


def kid_of_subsets(first, second, first_labels, second_labels, size=1000, seed=0):
    """Compute KID as the mean over SUBSETS pairs of subsets of `size` images; of all images where there are no more.

    Subsets keep the work linear in the number of images. They are drawn without replacement.
    """
    if max(len(first), len(second)) <= size:
        return kid(first, second, first_labels, second_labels)
    rng, found = np.random.default_rng(seed), []
    for _ in range(SUBSETS):
        one, other = (rng.choice(len(each), min(size, len(each)), replace=False) for each in (first, second))
        found.append(kid(first[one], second[other], first_labels[one], second_labels[other]))
    return float(np.mean(found))


def kid_between(first, second, first_weights, second_weights):
    """Compute the mean of the kernel over all pairs of two sets, for each draw of identities -> [repeats].

    The weights [repeats, n] and [repeats, m] tell how often each image was drawn.
    """
    sums = _weighted_sums(first, second, first_weights, second_weights)
    return sums / (first_weights.sum(axis=1) * second_weights.sum(axis=1))


def kid_within(features, labels, weights):
    """Compute the mean of the kernel over all pairs of different identities of a set, for each draw -> [repeats].

    An identity that was drawn twice still makes no pair with itself. A draw of one identity only has none: nan.
    """
    identities, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    own = np.array([kernel(each, each).sum() for each in (features[labels == label] for label in identities)])
    times = weights[:, first].astype(np.float64)
    sums = _weighted_sums(features, features, weights, weights) - times ** 2 @ own
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums / ((times @ sizes) ** 2 - times ** 2 @ sizes ** 2)


def _weighted_sums(first, second, first_weights, second_weights):
    """Sum the kernel over all pairs, times the weights of both images, by blocks -> float64 [repeats]."""
    step, sums = max(1, BLOCK // len(second)), 0.
    first, second = (np.ascontiguousarray(each, np.float32) for each in (first, second))
    columns = np.ascontiguousarray(second_weights.T, np.float32)
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        products = (kernel(first[part], second) @ columns).astype(np.float64)
        sums = sums + np.einsum("ir,ri->r", products, first_weights[:, part])
    return sums


def frechet_distance(first, second):
    """Compute the Frechet distance of two sets of features, [n, k] and [m, k].

    Each set is seen as a normal distribution, of mean m and covariance C. The distance is
    |m_1 - m_2|² + tr(C_1 + C_2 - 2 (C_1 C_2)^½).
    """
    first, second = moments(first), moments(second)
    # of few images, this root differs from `root_of` in the fifth digit; figures stay what they were
    return frechet_of(first, second, scipy.linalg.sqrtm(first[1]).real)


def moments(features):
    """Compute the (mean, covariance) of features [n, k]."""
    return features.mean(axis=0), np.cov(features, rowvar=False)


def frechet_of(first, second, root=None):
    """Compute the Frechet distance of two normal distributions, each a (mean, covariance).

    `root` is `root_of` the first covariance, where it is known.
    """
    (first_mean, first_covariance), (second_mean, second_covariance) = first, second
    root = root_of(first_covariance) if root is None else root
    spectrum = np.linalg.eigvalsh(root @ second_covariance @ root)      # C_1 C_2 has the same
    overlap = np.sqrt(np.maximum(spectrum, 0)).sum()
    between = ((first_mean - second_mean) ** 2).sum()
    traces = np.trace(first_covariance) + np.trace(second_covariance)
    return max(0., float(between + traces - 2 * overlap))               # rounding may take it below 0


def root_of(covariance):
    """Compute the root of a covariance [k, k]: the symmetric matrix whose square it is."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def moments_of_draws(features, weights):
    """Compute the (mean, covariance) of features [n, k] for each draw of weights [repeats, n], one after the other."""
    features = features.astype(np.float64)
    for each in weights:
        drawn, times = features[each > 0], each[each > 0].astype(np.float64)
        mean = times @ drawn / times.sum()
        drawn -= mean
        yield mean, (drawn * times[:, None]).T @ drawn / (times.sum() - 1)


def repeats_for(width, repeats):
    """Tell how many draws of the Frechet distance are made of features of this width."""
    return repeats if width <= WIDE else min(repeats, FEW_REPEATS)
