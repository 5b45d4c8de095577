from fastuq.cli import main

raise SystemExit(main())
