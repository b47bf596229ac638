"""What scripts/train_drafter.py is made of."""
