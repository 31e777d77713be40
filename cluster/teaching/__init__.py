"""`stillhouse teach`: a teacher's training, its folder, its curve, its versions."""
