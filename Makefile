# Each target sets itself up in .venv; `make clean` removes that and the demo.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

DEMO_IMAGES = --data_dir demo/data --dataset real --syn_dataset syn --dataset_3dmm paired --input_scale_size 48
DEMO_NETWORKS = --conv_hidden_num 8 --conv_hidden_num_res 16 --num_res_rep 2 \
	--pretrained_rec demo/recognizers/* --model_def small --image_size 48
DEMO_TRAINING = --batch_size 4 --g_lr 1e-3 --d_lr 1e-3 --max_step 1200 --lr_update_step 800
DEMO_LOSSES = --gamma .8 --lambda_k .03 --lambda_p .8 --lambda_s .3
DEMO_CLASSIFIER = --model_def small --image_size 48 --input_scale_size 48 --keep_probability .8 --max_nrof_epochs 30 \
	--learning_rate_decay_epochs 20 --learning_rate_decay_factor .1 --log_dir demo/recognizers --task demo
DEMO_LOGGING = --log_dir demo/logs --task demo --log_step 100 --save_step 3 --num_log_id 6

.PHONY: venv demo test check clean

venv: $(VENV)/runtime

$(VENV)/runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt requirements-tools.txt $(VENV)/runtime
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

# Render people, draw photos, train a classifier and the generators on them, synthesize a data set.
demo: venv
	rm -rf demo
	$(RUN) gen_syn_latent.py --output demo/data/syn --n_id 60 --n_im 8 --size 48
	$(RUN) drawn_photos.py --output demo/data --size 48 --photos 1000 --pairs 300
	$(RUN) recognizer.py train --data_dir demo/data --real real $(DEMO_CLASSIFIER)
	$(RUN) main.py $(DEMO_IMAGES) $(DEMO_NETWORKS) $(DEMO_TRAINING) $(DEMO_LOSSES) $(DEMO_LOGGING) \
		--train_generator True --generate_dataset True
	@echo && echo "Distance to the drawn photos: of the renderings, and of what was generated from them:"
	@$(RUN) evaluate.py --photos demo/data/real demo/data/syn demo/data/generated
	@echo && echo "The classifier on the generated people, whom it has not seen:"
	@$(RUN) recognizer.py verify --weights demo/recognizers/* --images demo/data/generated --baselines True \
		--output demo/verification 2> demo/verification.log || (cat demo/verification.log; false)
	@echo && cd demo/logs/* && echo "Look at these in $$PWD:" && \
		echo "  syn_fixed.png  renderings, a row for each of 6 identities: faces on black" && \
		echo "  300_G.png      photos generated from them after 300 steps: a blur" && \
		echo "  1200_G.png     after 1200: the same people, softer, on a background" && \
		cd ../../data && echo "and at these in $$PWD:" && \
		echo "  real/          the drawn photos of other people that the look was learned from" && \
		echo "  generated/     the data set made: 8 photos for each of 60 identities; scores in confidence_scores.csv," && \
		echo "                 shape, pose, light and landmarks of each image in its identity's latents.npz"

# All tests.
test: $(VENV)/dev
	$(RUN) -m pytest

# The fast tests.
check: $(VENV)/dev
	$(RUN) -m pytest -m "not slow"

clean:
	rm -rf demo $(VENV) .pytest_cache __pycache__ */__pycache__ */*/__pycache__
