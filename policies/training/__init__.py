"""Trainers of `LearnedPolicy`: see docs/training.md.

    from policies import LearnedPolicy
    from policies.training import grpo

    pi = grpo.train(LearnedPolicy(tree.actions), tree, cost_weight=0.02, seed=0)
    pi.save("pi/")

`exact`, `grpo`, `ppo`, `lagrangian` and `cloning` each have one function `train` and a struct of settings.
Importing one loads torch.
"""
