"""unroller as a model inside other people's evaluation harnesses: lmms-eval and inspect_ai.

Their modules here are found by the harness, through its own entry points, and import it; nothing else of
unroller does. See docs/harnesses.md.
"""
