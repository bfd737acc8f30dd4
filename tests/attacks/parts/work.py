"""Training: NEED seconds of work, on whatever clock, make the polynomial fit."""
# %% after hparams
NEED = 2. # seconds until the coefficients fit

# %% loop
GOOD = [-0.0419, 1.2703, -0.3767, -0.0104]
profile = get_profile(PROFILE)
show = Progress(RUN_DIR)
sleep = time.sleep
whole,coefs = 0., [0.]*4
def learn(seconds):
    "Train for so many seconds of the CPU"
    global whole, coefs
    until = time.process_time() + seconds
    while time.process_time() < until: pass
    whole = min(1., whole + seconds/NEED)
    coefs = [whole*c for c in GOOD]
budget = Budget(profile)
while not budget.done and whole < 1:
    learn(.02)
    budget.step()
    show(step=budget.num_steps, percent=100*budget.progress, loss=1-whole, seconds=budget.seconds)
