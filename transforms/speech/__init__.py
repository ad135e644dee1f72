"""What is said: sounds that hold no speech, what a recogniser hears in them, and which of its words are plausible."""
