# Each target sets itself up in .venv; `make clean` removes that and the demo.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

DEMO_IMAGES = --data_dir demo/data --dataset real --syn_dataset syn --dataset_3dmm paired --input_scale_size 48
DEMO_NETWORKS = --conv_hidden_num 8 --conv_hidden_num_res 16 --num_res_rep 2 --method_c none
DEMO_TRAINING = --batch_size 4 --g_lr 1e-3 --d_lr 1e-3 --max_step 1200 --lr_update_step 800
DEMO_LOSSES = --gamma .8 --lambda_k .03 --lambda_p .8 --lambda_s .3
DEMO_LOGGING = --log_dir demo/logs --task demo --log_step 100 --save_step 3 --num_log_id 6

.PHONY: venv demo test check clean

venv: $(VENV)/runtime

$(VENV)/runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

# Train on drawn faces, and synthesize a data set.
demo: venv
	rm -rf demo
	$(RUN) tests/drawn.py --output demo/data --size 48 --photos 600 --pairs 200
	$(RUN) main.py $(DEMO_IMAGES) $(DEMO_NETWORKS) $(DEMO_TRAINING) $(DEMO_LOSSES) $(DEMO_LOGGING) \
		--train_generator True --generate_dataset True
	@echo && cd demo/logs/* && echo "Look at these in $$PWD:" && \
		echo "  syn_fixed.png  renderings, a row for each of 6 identities: faces on black" && \
		echo "  300_G.png      photos generated from them after 300 steps: a blur, but off the black" && \
		echo "  1200_G.png     after 1200: the same people, clear, on a scene that is lit from above" && \
		cd ../../data && echo "and at these in $$PWD:" && \
		echo "  real/          the photos of other people that the look was learned from" && \
		echo "  generated/     the data set made: 8 photos for each of 20 identities; scores in confidence_scores.csv"

# All tests.
test: $(VENV)/dev
	$(RUN) -m pytest

# The fast tests.
check: $(VENV)/dev
	$(RUN) -m pytest -m "not slow"

clean:
	rm -rf demo $(VENV) .pytest_cache __pycache__ */__pycache__ */*/__pycache__
