"""nginx with its RTMP module as the demo and the tests run it: by `deploy/nginx-rtmp.conf`, on ports of its own.

In production it is set up with that same file; Veza only talks to it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from string import Template

CONFIGURATION = Path(__file__).parent.parent / "deploy" / "nginx-rtmp.conf"
MODULES = (
    Path("/usr/lib/nginx/modules/ngx_rtmp_module.so"),
    Path("/usr/share/nginx/modules/ngx_rtmp_module.so"),
)
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"
"""Where nginx is looked for: Debian installs it where only root looks by itself."""


@dataclass(frozen=True)
class RtmpServer:
    """Where one listens, all on loopback, and where it keeps its files."""

    directory: Path
    rtmp_port: int
    play_port: int
    hls_port: int
    stat_port: int
    hook_url: str
    application: str = "live"

    @property
    def environment(self) -> dict[str, str]:
        """Veza's settings for it, but the token, which is part of ``hook_url``."""
        return {
            "RTMP_URL": f"rtmp://127.0.0.1:{self.rtmp_port}/{self.application}",
            "HLS_BASE_URL": f"http://127.0.0.1:{self.hls_port}/hls",
            "INGEST_STAT_URL": f"http://127.0.0.1:{self.stat_port}/stat",
            "INGEST_CONTROL_URL": f"http://127.0.0.1:{self.stat_port}/control",
        }

    def command(self) -> list[str]:
        """Write its configuration, and say how it is started. Raises LookupError where it is not installed."""
        nginx, module = shutil.which("nginx", path=SEARCHED), next((path for path in MODULES if path.exists()), None)
        if nginx is None or module is None or not CONFIGURATION.exists():
            raise LookupError("nginx with its RTMP module is not installed (Debian: nginx-light, libnginx-mod-rtmp)")
        directory = self.directory.resolve()
        (directory / "hls").mkdir(parents=True, exist_ok=True)
        filled = Template(CONFIGURATION.read_text()).substitute(
            NGINX_MODULE=module,
            APPLICATION=self.application,
            RTMP_LISTEN=f"127.0.0.1:{self.rtmp_port}",
            PLAY_PORT=self.play_port,
            HLS_LISTEN=f"127.0.0.1:{self.hls_port}",
            STAT_LISTEN=f"127.0.0.1:{self.stat_port}",
            HOOK_URL=self.hook_url,
            DIRECTORY=directory,
        )
        written = directory / "nginx.conf"
        written.write_text(filled)
        # Started by root, its workers would be nobody's, who can't come to a directory that is root's alone.
        as_ourselves = ["-g", "user root;"] if os.geteuid() == 0 else []
        return [nginx, "-p", str(directory), "-c", str(written), *as_ourselves]
