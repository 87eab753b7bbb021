"""The README's lines about containers, word for word. Each is run by a test here."""

from __future__ import annotations

from tests.readme import take

COMPOSE = "docker-compose -f docker-compose.cluster.yml"
IMAGES = take("deploy/images/build")
UP = take(f"{COMPOSE} up -d --build")
SCALE = take(f"{COMPOSE} up -d --scale node=5")
ATTACK = take(f"{COMPOSE} run --rm attack")
BUILD = take(f"{COMPOSE} build")
ROLL = take("deploy/roll")
DOWN = take(f"{COMPOSE} down")
ALL = [IMAGES, UP, SCALE, ATTACK, BUILD, ROLL, DOWN]
