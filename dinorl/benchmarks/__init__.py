"""The measurements of ``dinorl bench``."""
