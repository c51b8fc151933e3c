"""Records on disk, what they are held to, and what is made of them."""
