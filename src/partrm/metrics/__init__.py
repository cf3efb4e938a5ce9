"""What is measured on images, masks and motions."""
