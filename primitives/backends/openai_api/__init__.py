"""Models behind a server that speaks OpenAI's chat protocol: one's own, or a hosted one."""

from primitives.backends.openai_api.server import OpenAIServer

__all__ = ["OpenAIServer"]
