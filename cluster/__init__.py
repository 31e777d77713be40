"""Who runs where: assembly, the controller, Ray, the command line, run directories."""
