"""A trained model's weights for others: files that torchvision, timm or Flax load, with the Python that loads them."""
