"""Keys: every backend is scrypt as RFC 7914 defines it, and the best one there is gets the job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbackup.base.errors import MachineError, NotEnoughMemory
from qbackup.base.limits import MIB
from qbackup.crypto.kdf import (
    Backend,
    Derivation,
    Deriver,
    check_memory,
    load_backends,
    physical_memory,
    secret_line,
)
from qbackup.crypto.romix.kernel import LaneKernel, lane_mix, llvmlite_is_installed
from qbackup.crypto.scrypt_format import EncryptedHeader, ScryptParameters
from tests.maker import scrypt_encrypt
from tests.support.speed import rows

BACKENDS = {backend.name: backend for backend in load_backends()}
COMPILED = ("pycryptodome", "hashlib")

# RFC 7914, section 12: (passphrase, salt, log2 N, r, p, key)
RFC_7914 = [
    (
        b"",
        b"",
        4,
        1,
        1,
        "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
        "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
    ),
    (
        b"password",
        b"NaCl",
        10,
        8,
        16,
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
        "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
    ),
    (
        b"pleaseletmein",
        b"SodiumChloride",
        14,
        8,
        1,
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
    ),
    (
        b"pleaseletmein",
        b"SodiumChloride",
        20,
        8,
        1,
        "2101cb9b6a511aaeaddbbe09cf70f881ec568d574a2ffd4dabe5ee9820adaa47"
        "8e56fd8f4ba5d09ffa1c6d927c40f4c337304049e8a952fbcbf45c6fa77a41a4",
    ),
]


class TestBackends:
    def test_all_three_are_here(self) -> None:
        """In the order of their speed; the tests of this file are about all of them."""
        assert list(BACKENDS) == ["pycryptodome", "hashlib", "pyscrypt"]

    @rows("name", BACKENDS)
    @rows("vector", RFC_7914, ids=lambda v: f"N=2^{v[2]}")
    def test_give_the_vectors_of_rfc_7914(
        self, name: str, vector: tuple[bytes, bytes, int, int, int, str]
    ) -> None:
        secret, salt, log2_n, r, p, key = vector
        parameters = ScryptParameters(log2_n, r, p)
        if BACKENDS[name].slow and parameters.work > 1 << 10:
            pytest.skip("hours in pure Python")
        job = Derivation(secret, salt, parameters)
        assert BACKENDS[name].derive(job, 2).hex() == key

    @given(
        st.binary(max_size=100),
        st.binary(min_size=32, max_size=32),
        st.integers(1, 8),
        st.integers(1, 8),
        st.integers(1, 4),
    )
    @settings(deadline=None)
    def test_agree_with_one_another(
        self, secret: bytes, salt: bytes, log2_n: int, r: int, p: int
    ) -> None:
        if log2_n >= 16 * r:
            return
        job = Derivation(secret, salt, ScryptParameters(log2_n, r, p))
        keys = {BACKENDS[name].derive(job, 1) for name in COMPILED}
        if job.parameters.work <= 64:
            keys.add(BACKENDS["pyscrypt"].derive(job, 1))
        assert len(keys) == 1
        assert len(keys.pop()) == 64

    @pytest.mark.parametrize("threads", [1, 2, 8])
    def test_any_number_of_threads_gives_the_same_key(self, threads: int) -> None:
        job = Derivation(b"secret", b"salt", ScryptParameters(10, 8, 4))
        expected = BACKENDS["hashlib"].derive(job, 1)
        assert BACKENDS["pycryptodome"].derive(job, threads) == expected

    def test_only_the_pure_python_one_is_slow(self) -> None:
        assert [backend.slow for backend in BACKENDS.values()] == [False, False, True]

    def test_the_secret_stays_out_of_what_is_printed(self) -> None:
        assert "hunter2" not in repr(Derivation(b"hunter2", b"", ScryptParameters(1, 1, 1)))


class TestHashlibsCeiling:
    @pytest.mark.parametrize(
        ("log2_n", "r", "p", "can"),
        [(20, 8, 1, True), (21, 8, 1, False), (20, 15, 1, True), (20, 16, 1, False)],
    )
    def test_is_two_gib(self, log2_n: int, r: int, p: int, can: bool) -> None:
        assert BACKENDS["hashlib"].can(ScryptParameters(log2_n, r, p)) == can
        assert BACKENDS["pycryptodome"].can(ScryptParameters(log2_n, r, p))

    def test_where_openssl_refuses_the_backend_said_so_before(self) -> None:
        """The figure that is compared is OpenSSL's own, to the byte."""
        import hashlib

        parameters = ScryptParameters(10, 8, 1)
        limit = 128 * 8 * 1 + 32 * 8 * (1024 + 2) * 4
        backend = Backend("test", lambda job, threads: b"", max_memory=limit)
        for maximum, works in ((limit, True), (limit - 1, False)):
            try:
                hashlib.scrypt(b"", salt=b"", n=1024, r=8, p=1, maxmem=maximum)
            except ValueError:
                assert not works
            else:
                assert works
        assert backend.can(parameters)
        assert not Backend("test", lambda job, threads: b"", max_memory=limit - 1).can(parameters)

    def test_passes_the_job_to_the_next_one(self) -> None:
        backends = (BACKENDS["hashlib"], BACKENDS["pyscrypt"])
        deriver = Deriver(backends)
        assert deriver.backend_for(ScryptParameters(20, 8, 1)).name == "hashlib"
        assert deriver.backend_for(ScryptParameters(21, 8, 1)).name == "pyscrypt"

    def test_with_no_other_one_is_told(self) -> None:
        deriver = Deriver((BACKENDS["hashlib"],))
        job = Derivation(b"", b"", ScryptParameters(21, 8, 1))
        with pytest.raises(MachineError, match=r"N=2\^21.*pycryptodome"):
            deriver.derive(job)


class TestOpensslsOtherBound:
    def test_n_of_2_to_the_16_r_is_left_to_the_others(self) -> None:
        """RFC 7914 has N < 2^(16 r); the scrypt program and pycryptodome don't look."""
        allowed, refused = ScryptParameters(15, 1, 1), ScryptParameters(16, 1, 1)
        names = [backend.name for backend in BACKENDS.values() if backend.can(refused)]
        assert names == ["pycryptodome", "pyscrypt"]
        keys = {BACKENDS[n].derive(Derivation(b"", b"", allowed), 1) for n in COMPILED}
        assert len(keys) == 1
        assert len(BACKENDS["pycryptodome"].derive(Derivation(b"", b"", refused), 1)) == 64


class TestChoice:
    @pytest.mark.parametrize(
        ("blocked", "names"),
        [
            ([], ["pycryptodome", "hashlib", "pyscrypt"]),
            (["Crypto"], ["hashlib", "pyscrypt"]),
            (["Crypto", "hashlib.scrypt"], ["pyscrypt"]),
            (["pyscrypt"], ["pycryptodome", "hashlib"]),
        ],
    )
    def test_takes_what_can_be_loaded(self, blocked: list[str], names: list[str]) -> None:
        program = (
            "import hashlib, sys\n"
            f"for name in {blocked!r}:\n"
            "    if name == 'hashlib.scrypt': del hashlib.scrypt\n"
            "    else: sys.modules[name] = None\n"
            "from qbackup.crypto.kdf import Deriver, Derivation\n"
            "from qbackup.crypto.scrypt_format import ScryptParameters\n"
            "deriver = Deriver()\n"
            "print(*(backend.name for backend in deriver.backends))\n"
            "print(deriver.derive(Derivation(b'', b'', ScryptParameters(4, 1, 1))).hex())\n"
        )
        out = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert out.splitlines() == [" ".join(names), RFC_7914[0][5]]

    def test_with_nothing_at_all_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qbackup.crypto.kdf.LOADERS", ())
        with pytest.raises(MachineError, match="install pycryptodome"):
            load_backends()

    def test_nothing_is_loaded_before_a_key_is_asked_for(self) -> None:
        program = (
            "import sys, qbackup.crypto.kdf\n"
            "qbackup.crypto.kdf.Deriver()\n"
            "print('Crypto' in sys.modules, 'pyscrypt' in sys.modules)\n"
        )
        out = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert out.split() == ["False", "False"]


class TestMemory:
    @pytest.mark.parametrize("name", COMPILED)
    def test_that_is_not_there_is_the_machines_fault(self, name: str) -> None:
        """Under a real limit of the system: a GiB of address space, a derivation of one."""
        program = (
            "import resource\n"
            "from qbackup.base.errors import MachineError\n"
            "from qbackup.crypto.kdf import *\n"
            "from qbackup.crypto.scrypt_format import ScryptParameters\n"
            f"backend = [b for b in load_backends() if b.name == {name!r}]\n"
            "job = Derivation(b'', b'', ScryptParameters(20, 8, 1))\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({1024 * MIB}, {1024 * MIB}))\n"
            "try:\n"
            "    Deriver(tuple(backend)).derive(job)\n"
            "except MachineError as error:\n"
            "    print(error)\n"
        )
        out = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert out == "not enough memory to derive a key: 1024 MiB are needed\n"

    def test_that_the_machine_does_not_have_is_not_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = Derivation(b"", b"", ScryptParameters(40, 8, 1))
        with pytest.raises(MachineError, match="this machine has"):
            Deriver((BACKENDS["pycryptodome"],)).derive(job)
        monkeypatch.delattr("os.sysconf")  # a system that does not say
        small = Derivation(b"", b"", ScryptParameters(4, 1, 1))
        assert Deriver((BACKENDS["pycryptodome"],)).derive(small).hex() == RFC_7914[0][5]

    @pytest.mark.parametrize(
        ("memory", "enough"), [(2**20 - 1, False), (2**20, True), (2**40, True), (None, True)]
    )
    def test_must_hold_one_lane_and_no_more_than_that_is_asked(
        self, monkeypatch: pytest.MonkeyPatch, memory: int | None, enough: bool
    ) -> None:
        """A lane of a MiB, and sixteen of them."""
        monkeypatch.setattr("qbackup.crypto.kdf.physical_memory", lambda: memory)
        for p in (1, 16):
            if enough:
                check_memory(ScryptParameters(10, 8, p))
            else:
                with pytest.raises(NotEnoughMemory, match=r"a key needs 1 MiB, .* has 0 MiB"):
                    check_memory(ScryptParameters(10, 8, p))

    def test_is_this_machines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        there = physical_memory()
        assert there is not None
        assert 64 * MIB < there < 2**50
        for error in (ValueError, OSError, AttributeError):

            def fail(name: str, error: type[Exception] = error) -> int:
                raise error(name)

            monkeypatch.setattr("os.sysconf", fail)
            assert physical_memory() is None

    def test_that_a_backend_runs_out_of_is_told_with_the_lanes_it_took(self) -> None:
        """Both C libraries say ValueError; a backend with threads takes a lane for each."""
        job = Derivation(b"", b"", ScryptParameters(10, 8, 4))
        for error in (MemoryError, ValueError):

            def fail(job: Derivation, threads: int, error: type[Exception] = error) -> bytes:
                raise error("malloc")

            for threaded, need in ((True, 3), (False, 1)):
                deriver = Deriver((Backend("test", fail, threaded=threaded),))
                with pytest.raises(NotEnoughMemory, match=f"key: {need} MiB are needed"):
                    deriver.derive(job, 3)


class TestLanes:
    """What a deriver has for lanes that are to be had singly."""

    def test_are_mixed_by_pycryptodome_where_it_is_the_fastest(self) -> None:
        assert Deriver().lane_mix is lane_mix()
        assert Deriver((BACKENDS["pycryptodome"], BACKENDS["hashlib"])).lane_mix is lane_mix()

    @pytest.mark.parametrize("name", ["hashlib", "pyscrypt"])
    def test_are_not_to_be_had_of_other_backends(self, name: str) -> None:
        assert Deriver((BACKENDS[name],)).lane_mix is None
        assert Deriver((BACKENDS[name], BACKENDS["pycryptodome"])).lane_mix is None

    def test_are_not_to_be_had_of_a_pycryptodome_that_is_not_known(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It stays a backend for whole keys."""
        lane_mix.cache_clear()
        monkeypatch.setattr("Crypto.version_info", (5, 0, "0"))
        deriver = Deriver()
        assert deriver.lane_mix is None
        job = Derivation(b"", b"", ScryptParameters(4, 1, 1))
        assert deriver.derive(job).hex() == RFC_7914[0][5]

    def test_are_looked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        deriver = Deriver()
        mix = deriver.lane_mix
        monkeypatch.setattr("qbackup.crypto.kdf.lane_mix", lambda: pytest.fail("again"))
        assert deriver.lane_mix is mix


class TestKernel:
    KERNEL = LaneKernel(lambda lanes: lambda blocks, v, n: b"")

    def test_is_worth_a_try_where_llvmlite_is_installed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert Deriver().has_kernel == llvmlite_is_installed()
        for installed in (True, False):
            monkeypatch.setattr(
                "qbackup.crypto.kdf.llvmlite_is_installed", lambda installed=installed: installed
            )
            assert Deriver().has_kernel is installed

    def test_is_worth_a_try_where_the_caller_has_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("qbackup.crypto.kdf.llvmlite_is_installed", lambda: False)
        deriver = Deriver(load_kernel=lambda lanes: self.KERNEL)
        assert deriver.has_kernel
        assert deriver.load_kernel() is self.KERNEL

    def test_is_not_loaded_to_tell_that(self) -> None:
        deriver = Deriver(load_kernel=lambda lanes: pytest.fail("loaded"))
        assert deriver.has_kernel

    @pytest.mark.parametrize(
        "error",
        [
            ImportError("No module named 'llvmlite'"),
            MachineError("the lane kernel gives wrong keys on this machine"),
            RuntimeError("Unable to find target for this triple"),
            MemoryError(),
            OSError(28, "No space left on device"),
            SystemError(),
            KeyError("x"),
        ],
    )
    def test_that_can_not_be_loaded_is_none(self, error: Exception) -> None:
        def fail(lanes: int) -> LaneKernel:
            raise error

        assert Deriver(load_kernel=fail).load_kernel() is None

    def test_that_is_interrupted_is_not_taken_for_missing(self) -> None:
        def interrupted(lanes: int) -> LaneKernel:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Deriver(load_kernel=interrupted).load_kernel()

    def test_is_missing_where_llvmlite_is(self) -> None:
        """Keys are derived all the same."""
        program = (
            "import sys\n"
            "sys.modules['llvmlite'] = None\n"
            "from qbackup.crypto.kdf import Derivation, Deriver\n"
            "from qbackup.crypto.scrypt_format import ScryptParameters\n"
            "deriver = Deriver()\n"
            "print(deriver.has_kernel, deriver.load_kernel())\n"
            "print(deriver.derive(Derivation(b'', b'', ScryptParameters(4, 1, 1))).hex())\n"
        )
        out = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert out.splitlines() == ["False None", RFC_7914[0][5]]


class TestSecretLine:
    @pytest.mark.parametrize(
        ("combined", "line"),
        [
            (b"plain", b"plain"),
            (b"", b""),
            (b"a\nb", b"a"),
            (b"a\rb", b"a"),
            (b"a\0b", b"a"),
            (b"\nb", b""),
            (b" a\t ", b" a\t "),
            (b"x" * 2047, b"x" * 2047),
            (b"x" * 2048, b"x" * 2047),
            (b"x" * 2047 + b"\n", b"x" * 2047),
            ("ü".encode() * 1024, ("ü".encode() * 1024)[:2047]),
        ],
    )
    def test_is_what_the_program_takes_of_a_passphrase(self, combined: bytes, line: bytes) -> None:
        assert secret_line(combined) == line

    @pytest.mark.parametrize(
        "combined",
        [
            b"plain",
            b"a\nb",
            b"a\rb",
            b"a\0b",
            b" spaces ",
            b"x" * 2047,
            b"x" * 2048,
            b"x" * 3000,
            "ü".encode() * 1100,
            b"\xff\xfe",
        ],
        ids=lambda value: f"{value[:8]!r} {len(value)}",
    )
    def test_agrees_with_the_program(self, tools: None, tmp_path: Path, combined: bytes) -> None:
        data = scrypt_encrypt(b"", tmp_path / "file", combined).read_bytes()
        header = EncryptedHeader.parse(data)
        job = Derivation(secret_line(combined), header.salt, header.parameters)
        assert header.accepts(Deriver().derive(job))
