"""xxh3-64 in numpy against values of the reference implementation (libxxhash 0.8.1), and against it where it is importable."""
import unittest

import numpy as np

from beamline.xxh3 import hash64, hash_rows

SEED = 0x9E3779B97F4A7C15
DATA = bytes((i * i * 7 + i * 31 + 5) % 251 for i in range(100000))
VECTORS = {  # length: (seed 0, seed 0x9E3779B97F4A7C15)
    0: (0x2D06800538D394C2, 0x602B0E2CD6662C8B),
    1: (0x929E358D27AE3EE2, 0x968C4CD158C76E3C),
    2: (0x5F54949A22A6FA65, 0x473E94A6AD50EB69),
    3: (0x3D1D5D94BC951786, 0xE25E540F7DF4046A),
    4: (0xC719637FCEBCDF87, 0xA8D6EC2B438DD0C4),
    5: (0x2681659503A9CF42, 0xB18599C7308C5AE5),
    8: (0x3555C239AFD1D96D, 0x3FC9D8BA9FC40E89),
    9: (0xC52DE2124FD0EBEA, 0x4805E34BDB748EDB),
    15: (0x303F32C858C47043, 0xE83963CEBE97645D),
    16: (0x6135BFDA9A3ED4E1, 0x90144A53B60842F9),
    17: (0xA66EC7CD9CD81CEE, 0x40C2AE073D24A5C3),
    32: (0x6A0629F8C8FCCAD3, 0x403E3E77D1E30057),
    33: (0xA3F9819151B16DE2, 0xA009022AF1E8BBFC),
    64: (0x0C7A5AB3E6FDF866, 0x92045614CEE2217E),
    65: (0xE318D9A32C44454C, 0x317212A6BBCBD961),
    96: (0x39036DAACE034604, 0xE95636BCD4274C18),
    97: (0x878ADB40BE31F610, 0x31B30145D2360B22),
    127: (0xDD07ED4C9ACF5F9D, 0x8CFF33DB02B12470),
    128: (0x514CF343AD7A6322, 0x1A7B13A06F52CAB7),
    129: (0x311992DD444D7B05, 0x051BA5BCD45F5339),
    143: (0x406A8805B38948B9, 0x8062896ED0A07715),
    144: (0x76A33AE7D5EA9B8D, 0xC08365FC4360806F),
    239: (0xDCF9FFCC0BC91EC6, 0xDC63E519D11D8B41),
    240: (0x3EC2CBBA6D1FB0C3, 0x4CA68F43B4A8E904),
    241: (0x1BD026CA7270D955, 0x090914026065DB0F),
    255: (0x34A0D94712064666, 0x055C5B28F31880E7),
    256: (0x1D48537B13A22AA1, 0x8937ADC404EB96DF),
    1023: (0x3B116C8210825F0E, 0x269E64A3D787843B),
    1024: (0x4778E884DEB29306, 0x8FFEBAC2F25075BA),
    1025: (0x6AEA340C42EB9887, 0xA96B03B8C30AB2E3),
    1087: (0xEFF8C2E95BB17BE1, 0xC94CD27E228AC848),
    1088: (0xC23A86F5C5DBD098, 0x9945D4E71194EEFB),
    1089: (0x9178A4C7AB1DC585, 0xC33F73FCC9E9F281),
    2047: (0x4CEB2946C52AE72E, 0xC4BE2924C19F2AD1),
    2048: (0x5D4FFA1340C98459, 0x3D3908E314FF83FD),
    2049: (0x95E0B3EEE57EF8AE, 0x92598389619F3C76),
    4096: (0x7E0585D4D745A58C, 0x252237B552842770),
    100000: (0xD2D35B0108BE37BB, 0x2CFCE459C6ECE5D0),
}


class Xxh3(unittest.TestCase):
    def test_reference_values(self):
        for n, (plain, seeded) in VECTORS.items():
            self.assertEqual(hash64(DATA[:n]), plain, f"{n} bytes")
            self.assertEqual(hash64(DATA[:n], SEED), seeded, f"{n} bytes, seeded")

    def test_rows_are_hashed_like_single_inputs(self):
        for n in (0, 1, 3, 7, 12, 40, 129, 240, 300):
            rows = np.frombuffer(DATA[:20 * n], np.uint8).reshape(20, n)
            seeds = np.arange(20, dtype=np.uint64) * np.uint64(0x123456789ABCDEF)
            self.assertEqual(hash_rows(rows, seeds).tolist(), [hash64(r.tobytes(), int(s)) for r, s in zip(rows, seeds)], f"{n} bytes")

    def test_any_buffer(self):
        array = np.arange(100, dtype=np.float32).reshape(10, 10)
        self.assertEqual(hash64(array), hash64(array.tobytes()))
        self.assertEqual(hash64(memoryview(bytearray(b"abc"))), hash64(b"abc"))

    def test_against_the_xxhash_package(self):
        try:
            import xxhash
        except ImportError:
            self.skipTest("the package xxhash is not installed")
        for n in list(range(0, 1200)) + [4095, 65536, 99999]:
            for seed in (0, 1, SEED, 2**64 - 1):
                self.assertEqual(hash64(DATA[:n], seed), xxhash.xxh3_64_intdigest(DATA[:n], seed), f"{n} bytes, seed {seed}")


if __name__ == "__main__":
    unittest.main()
