"""The live page of a run: `stillhouse watch NAME --web`."""
