"""What ``dinorl bench`` measures, and what it compares with."""
