"""Numbers that travel together, and how many rows a step's graphs take."""

import torch

from hash3d.training.packet import Capacities, Packet


def test_a_packet_brings_each_number_to_its_place():
    packet = Packet({"one": (), "three": (3,), "matrix": (2, 2)}, torch.device("cpu"))
    places = {name: each.data_ptr() for name, each in packet.numbers.items()}
    for turn in range(5):
        sent = {"one": torch.tensor(turn), "three": torch.arange(3) + turn, "matrix": torch.full((2, 2), 0.5 * turn)}
        packet.send(sent)
        assert all(torch.equal(packet.numbers[name], each.float()) for name, each in sent.items())
    assert {name: each.data_ptr() for name, each in packet.numbers.items()} == places


def test_memory_serves_fewer_rows_too_until_waste_costs_more_than_new_memory():
    capacities = Capacities()
    made = capacities.choose([100_000, 50_000], [])
    assert all(1.1 * count <= each < 1.1 * count + 2048 for count, each in zip((100_000, 50_000), made, strict=True))
    assert capacities.choose([90_000, 50_000], [made]) == made
    assert capacities.choose([90_000, 60_000], [made]) != made, "one of them does not fit"
    assert capacities.choose([60_000, 40_000], [made, (75_000, 55_000)]) == (75_000, 55_000)
    assert capacities.choose([], [()]) == capacities.choose([], []) == ()
    assert capacities.choose([0], []) == (2048,)
    large, uses = (1_000_000,), 0
    while (found := capacities.choose([100_000], [large])) == large:
        uses += 1
    assert 110_000 <= found[0] < 113_000
    assert uses == 4
    assert capacities.choose([990_000], [large, found]) == large
    assert all(capacities.choose([910_000], [large]) == large for _ in range(1000)), "no waste"
