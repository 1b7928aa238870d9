"""What is known of a judgement and of the set it judges, as a dict: asked for by name, unknown where it is not there.

The keys, each of which may be missing, are described in docs/files.md.
"""
import shlex

from evaluation.figures import SET

UNKNOWN = "unknown"
_ALL_OF = {"embedder": "embedder", "generator": "generator", "face_model": "3D face model"}
_FOLDED = "settings", "params"              # long ones within them


def sets_of(facts):
    """List what is known of the sets -> {name: dict}."""
    return {name: each for name, each in (facts.get("sets") or {}).items() if isinstance(each, dict)}


def folder_of(facts):
    """Name the folder of the set."""
    return sets_of(facts).get(SET, {}).get("folder", UNKNOWN)


def warnings_of(facts):
    """List the warnings that a reader must see first."""
    return list(facts.get("warnings") or [])


def command_of(facts):
    """Write the command line, "" where it is not known."""
    command = facts.get("command") or ""
    return command if isinstance(command, str) else shlex.join(map(str, command))


def in_short(facts):
    """Say in a few pieces what was judged, by what, and when."""
    judged = sets_of(facts).get(SET, {})
    pieces = []
    if isinstance(judged.get("images"), int):
        pieces.append(f"{judged['images']:,} images of {judged.get('identities', UNKNOWN):,} identities"
                      if isinstance(judged.get("identities"), int) else f"{judged['images']:,} images")
    embedder = _dict(facts, "embedder")
    if embedder:
        digest = embedder.get("sha256")
        pieces.append(f"embedder {embedder.get('name', UNKNOWN)}"
                      + (f" (sha256 {str(digest)[:12]}…)" if digest else ", sha256 unknown"))
    if facts.get("date"):
        pieces.append(str(facts["date"])[:10])
    return pieces


def listed(facts):
    """List the single facts as (term, words), in order: date, seeds, networks with their hashes, versions."""
    entries = [(term, _words(facts[key])) for key, term in (
        ("date", "date"), ("seconds", "seconds it took"), ("seed", "seed"), ("seeds", "seeds"), ("commit", "commit"))
        if facts.get(key) is not None]
    for key, term in _ALL_OF.items():
        entries += [(f"{term}, {name}", _words(value)) for name, value in _dict(facts, key).items()
                    if name not in _FOLDED]
    versions = _dict(facts, "versions")
    if versions:
        entries.append(("versions", _words(versions)))
    return entries


def folded(facts):
    """List the long facts -> [(name, value)]: settings of sets, parameters of the generator."""
    found = [(f"settings.json of the {name}", each["settings"]) for name, each in sets_of(facts).items()
             if each.get("settings")]
    found += [(f"params.json of the {term}", _dict(facts, key)["params"]) for key, term in _ALL_OF.items()
              if _dict(facts, key).get("params")]
    return found


def _dict(facts, key):
    """Return the dict under a key, an empty one where there is none."""
    return facts[key] if isinstance(facts.get(key), dict) else {}


def _words(value):
    """Write a fact in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return UNKNOWN if value is None else str(value)
