"""What the embeddings of a classifier tell of pairs, in a folder or in .bin files: numbers, a table, doubts."""
from typing import NamedTuple

from recognition import standard_sets, verification


class Outcome(NamedTuple):
    """What a verification found. A row is a classifier or a baseline; of .bin files, it is the name of a file."""
    results: dict                   # {row: verification.Verification}
    same: dict                      # {row: bool [pairs], which of its pairs are of one person}
    report: dict                    # what else verification.json tells
    table: str                      # for a user
    doubts: list                    # sentences on what the numbers can't tell


def of_pairs(pairs, found, options):
    """Verify {row: embeddings} on verification.FacePairs -> Outcome. The row "classifier" has to be there.

    Warns of pairs without embeddings, and raises UserError where too many are.
    """
    pairs = verification.with_embeddings(pairs, found["classifier"])
    results = {name: _verified(embeddings, pairs, options) for name, embeddings in found.items()}
    report = {"people": len({name.split("/")[0] for name in pairs.names}), "pairs": len(pairs.same),
              "folds": len(set(pairs.fold.tolist()))}
    doubt = verification.doubt(results["classifier"].accuracy, len(pairs.same))
    return Outcome(results, dict.fromkeys(results, pairs.same), report, verification.table_of(results, pairs),
                   [doubt] if doubt else [])


def of_sets(sets, found, options):
    """Verify the features {name: [n, 2 E]} of .bin files on their FacePairs, by both protocols -> Outcome.

    The results are those of our own protocol. Warns and raises UserError as `of_pairs` does.
    """
    results, same, standards, doubts = {}, {}, {}, []
    for name, features in found.items():
        pairs, embeddings = verification.with_embeddings(sets[name], features), standard_sets.flip_sum(features)
        standards[name], same[name] = standard_sets.evaluate(embeddings, pairs), pairs.same
        results[name] = _verified(embeddings, pairs, options)
        doubt = verification.doubt(results[name].accuracy, len(pairs.same))
        doubts += [f"{name}: {doubt}"] if doubt else []
    report = {"pairs": {name: len(each) for name, each in same.items()}, "folds": standard_sets.FOLDS,
              "arcface_torch": {name: standard.row() for name, standard in standards.items()}}
    return Outcome(results, same, report, standard_sets.table_of(standards, results), doubts)


def _verified(embeddings, pairs, options):
    """Verify `embeddings` on FacePairs as the options say -> verification.Verification."""
    return verification.verify(embeddings, pairs, options.distance_metric, options.subtract_mean)
