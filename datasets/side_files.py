"""The names of the files that commands leave beside images."""

LABELS = "latents.npz"              # of an identity's images: their shape, expression, light, pose, landmarks
ALIGNMENT = "alignment.csv"         # what align.py found in each photo
FITTING = "fitting.csv"             # what became of each photo that a model was laid on
SCORES = "confidence_scores.csv"    # of synthesized images
PEOPLE = "people.csv"               # who the rendered people are
INDEX, MANIFEST = "index.csv", "manifest.json"      # of an export: what is known of each image, and checksums
